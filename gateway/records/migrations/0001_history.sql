-- Times are Unix milliseconds. docs/history.md says why the keys are what they are.

CREATE TABLE store (
    identity TEXT NOT NULL -- made with the file: a new one tells readers that history begins again
) STRICT;

-- The key is the order of every question asked: one robot, a range of time.
-- seq is -1 where the robot sent none.
CREATE TABLE readings (
    robot TEXT NOT NULL,
    ts INTEGER NOT NULL, -- device
    seq INTEGER NOT NULL,
    rts INTEGER NOT NULL, -- gateway
    pm1 REAL, -- µg/m³
    pm25 REAL, -- µg/m³
    pm10 REAL, -- µg/m³
    co2 REAL, -- ppm
    tvoc REAL, -- ppb
    temp REAL, -- °C
    rh REAL, -- %
    pressure REAL, -- hPa
    x REAL, -- m
    y REAL, -- m
    room TEXT,
    PRIMARY KEY (robot, ts, seq)
) STRICT, WITHOUT ROWID;

-- Finds what a robot without a clock sent twice: its times are the gateway's.
CREATE INDEX readings_without_clock ON readings (robot, seq) WHERE ts = rts AND seq >= 0;

-- Kept in step by the writer: counting rows would read the whole table.
CREATE TABLE reading_totals (
    robot TEXT NOT NULL PRIMARY KEY,
    readings INTEGER NOT NULL,
    first_ts INTEGER NOT NULL,
    last_ts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE robots (
    id TEXT NOT NULL PRIMARY KEY,
    last_seen INTEGER NOT NULL,
    connection TEXT,
    connection_ts INTEGER,
    state TEXT,
    state_ts INTEGER,
    battery REAL, -- %
    fan INTEGER,
    filter REAL, -- %
    error TEXT,
    name TEXT,
    model TEXT,
    firmware TEXT,
    map_id TEXT,
    pose TEXT -- JSON
) STRICT, WITHOUT ROWID;

-- Offsets begin again with a new journal; with the receive time they stay unique.
CREATE TABLE events (
    "offset" INTEGER NOT NULL,
    rts INTEGER NOT NULL,
    robot TEXT NOT NULL,
    ts INTEGER NOT NULL,
    code TEXT NOT NULL,
    level TEXT NOT NULL,
    x REAL,
    y REAL,
    room TEXT,
    PRIMARY KEY ("offset", rts)
) STRICT, WITHOUT ROWID;

CREATE INDEX events_by_robot ON events (robot, ts);

CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    topic TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    payload BLOB NOT NULL,
    bytes INTEGER NOT NULL -- topic, detail and payload
) STRICT;

CREATE INDEX dead_letters_by_age ON dead_letters (at, id, bytes);
