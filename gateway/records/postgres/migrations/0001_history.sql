-- Times are Unix milliseconds. docs/history.md says why the keys are what they are.
-- COLLATE "C" is the order that SQLite has, and the fastest one.

CREATE TABLE store (
    identity text NOT NULL, -- made with the tables: a new one says that history begins again
    schema integer NOT NULL
);

-- The key is the order of every question asked: one robot, a range of time.
-- seq is -1 where the robot sent none.
CREATE TABLE readings (
    robot text COLLATE "C" NOT NULL,
    ts bigint NOT NULL, -- device
    seq bigint NOT NULL,
    rts bigint NOT NULL, -- gateway
    pm1 double precision, -- µg/m³
    pm25 double precision, -- µg/m³
    pm10 double precision, -- µg/m³
    co2 double precision, -- ppm
    tvoc double precision, -- ppb
    temp double precision, -- °C
    rh double precision, -- %
    pressure double precision, -- hPa
    x double precision, -- m
    y double precision, -- m
    room text,
    PRIMARY KEY (robot, ts, seq)
) PARTITION BY RANGE (ts);

-- Takes what no month takes: clocks that are years off. Months are made by the gateway.
CREATE TABLE readings_other PARTITION OF readings DEFAULT;

-- Small, for questions about a time over all robots, and for deleting what is old.
CREATE INDEX readings_by_time ON readings USING brin (ts);

-- Finds what a robot without a clock sent twice: its times are the gateway's.
CREATE INDEX readings_without_clock ON readings (robot, seq) WHERE ts = rts AND seq >= 0;

-- Kept in step by the writers, who also lock a robot here: two boxes never write one at once.
CREATE TABLE reading_totals (
    robot text COLLATE "C" NOT NULL PRIMARY KEY,
    readings bigint NOT NULL,
    first_ts bigint NOT NULL,
    last_ts bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE robots (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    last_seen bigint NOT NULL,
    connection text,
    connection_ts bigint,
    state text,
    state_ts bigint,
    battery double precision, -- %
    fan bigint,
    filter double precision, -- %
    error text,
    name text,
    model text,
    firmware text,
    map_id text,
    pose text -- JSON
) WITH (fillfactor = 50);

-- Offsets count per journal: with the box and the receive time they are unique.
CREATE TABLE events (
    box text COLLATE "C" NOT NULL,
    "offset" bigint NOT NULL,
    rts bigint NOT NULL,
    robot text COLLATE "C" NOT NULL,
    ts bigint NOT NULL,
    code text NOT NULL,
    level text NOT NULL,
    x double precision,
    y double precision,
    room text,
    PRIMARY KEY (box, "offset", rts)
);

CREATE INDEX events_by_robot ON events (robot, ts);

CREATE TABLE dead_letters (
    box text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    at bigint NOT NULL,
    topic text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    payload bytea NOT NULL,
    bytes bigint NOT NULL, -- topic, detail and payload
    PRIMARY KEY (box, id)
);

CREATE INDEX dead_letters_by_age ON dead_letters (box, at, id, bytes);
