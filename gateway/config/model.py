"""One struct per table of edge.toml. Units are in the names; msgspec checks types and bounds."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(gt=0)]
Seconds = Annotated[float, Meta(ge=0)]
Millis = Annotated[float, Meta(ge=0, le=10_000)]
Size = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]*\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?$",
        description='a size as "64MiB" (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)',
    ),
]
Age = Annotated[
    str,
    Meta(pattern=r"^[1-9][0-9]*\s*(s|m|h|d)$", description='an age as "7d" (s, m, h, d)'),
]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_.:-]{1,64}$",
        description="1 to 64 of the characters A-Z a-z 0-9 _ . : -",
    ),
]
NameOrEmpty = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_.:-]{0,64}$",
        description="at most 64 of the characters A-Z a-z 0-9 _ . : -",
    ),
]


class ConfigError(Exception):
    """edge.toml cannot be used.

    One line per problem: file and line (or the other source), key, what was expected and found.
    """


class Site(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[site]: which place this box serves."""

    id: Name = "home"
    box: NameOrEmpty = ""  # this gateway among several; "" makes <host name>-<6 hex digits>
    timezone: str = "Asia/Seoul"  # IANA name; input times without an offset are in it


class Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[data]: where everything durable lives."""

    dir: Path = Path("data")


class Http(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[http]: the listening socket and what one request may cost."""

    host: str = "127.0.0.1"
    port: Port = 8080  # 0 picks a free port
    max_body_bytes: Positive = 1_048_576
    drain_s: Seconds = 1.5  # what running handlers get at shutdown
    backlog: Positive = 1024


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[tls]: reserved; HTTPS is not served yet and the port is not opened."""

    port: Port = 8443
    hostname: str = ""
    cert_file: str = ""
    key_file: str = ""


class Auth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[auth]: "off" is accepted only while every listener is on loopback."""

    mode: Literal["off", "required"] = "off"


class BusLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[bus.limits]: what one MQTT client, and all together, may cost."""

    clients: Positive = 10_000
    packet_bytes: Positive = 262_144  # largest packet accepted; the connection closes above it
    queue_bytes: Positive = 1_048_576  # outbound, per client; QoS 0 is dropped above it
    queue_messages: Positive = 1_000  # outbound QoS 1 and 2 waiting per session
    inflight: Annotated[int, Meta(ge=1, le=65535)] = 8_192  # receive maximum told to MQTT 5 clients
    subscriptions: Positive = 1_000  # per client
    sessions: Positive = 10_000  # kept for absent clients
    session_expiry_s: Positive = 86_400  # kept at most so long
    retained: Positive = 10_000  # messages
    retained_bytes: Positive = 16_777_216
    connect_s: Seconds = 10.0  # from accept to a whole CONNECT
    write_s: Seconds = 30.0  # a client that accepts nothing for this long is cut off
    topic_levels: Positive = 32


class EmbeddedBus(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="backend",
    tag="embedded",
):
    """[bus] backend = "embedded": the gateway is the devices' MQTT server (3.1.1 and 5)."""

    host: str = "127.0.0.1"
    port: Port = 1883  # 0 picks a free port
    prefix: str = "smartair/v1"
    limits: BusLimits = field(default_factory=BusLimits)


class MqttBus(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="backend", tag="mqtt"
):
    """[bus] backend = "mqtt": client of a broker."""

    url: str  # mqtt://host:1883 or mqtts://host:8883
    user: str = ""
    password_file: str = ""
    ca_file: str = ""  # "" trusts the system's certificates
    cert_file: str = ""  # a client certificate, with key_file
    key_file: str = ""
    client_id: str = ""  # "" makes edge-gateway-<site id>-<site.box, or 6 digits of this box>
    prefix: str = "smartair/v1"
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30
    session_expiry_s: Positive = 604_800  # how long the broker keeps what we missed
    receive_maximum: Annotated[int, Meta(ge=1, le=65535)] = 4_096
    topic_aliases: Annotated[int, Meta(ge=0, le=65535)] = 1_024
    protocol: Literal["auto", "5", "3.1.1"] = "auto"  # auto: 5, then 3.1.1 if it is refused
    timeout_s: Annotated[float, Meta(gt=0)] = 10.0  # connect and acknowledgements


class JournalConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[journal]: the log on disk."""

    commit_ms: Millis = 5.0  # longest wait of a message for others to share its fdatasync
    commit_bytes: Positive = 1_048_576  # enough waiting bytes to sync at once
    segment_bytes: Size = "64MiB"
    max_bytes: Size = "1GiB"
    max_age: Age = "7d"
    pending_bytes: Size = "32MiB"  # not yet durable: above it devices are not read any more
    memory_bytes: Size = "16MiB"  # newest records kept for readers that are caught up


class SqliteRecords(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="backend", tag="sqlite"
):
    """[records] backend = "sqlite": data.dir/records.db."""

    dsn: str = ""  # belongs to backend = "postgres"
    dead_letters: Positive = 10_000  # kept; the oldest go first
    dead_letter_bytes: Size = "64MiB"


class PostgresRecords(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="backend",
    tag="postgres",
):
    """[records] backend = "postgres": a server that several boxes may share."""

    dsn: str  # postgresql://user@host:5432/database; the password belongs in password_file
    password_file: str = ""
    ca_file: str = ""  # "" trusts the system's certificates, where sslmode asks for TLS
    pool: Annotated[int, Meta(ge=2, le=100)] = 6  # connections
    timeout_s: Annotated[float, Meta(gt=0)] = 5.0  # connect, and the longest a statement may take
    dead_letters: Positive = 10_000  # kept; the oldest go first
    dead_letter_bytes: Size = "64MiB"


class Live(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[live]: WebSocket and SSE readers."""

    tick_ms: Millis = 4.0  # poses of one tick share a frame
    history: Positive = 20_000  # poses kept for readers that resume
    event_history: Positive = 1_000  # events kept for Last-Event-ID
    event_queue: Positive = 256  # per reader; a slower one is disconnected and resumes
    clients: Positive = 20_000
    ping_s: Seconds = 25.0
    heartbeat_s: Seconds = 15.0  # SSE comment
    write_s: Seconds = 30.0  # a reader without progress for this long is cut off
    slow_ms: Millis = 250.0  # a reader this far behind gets the newest pose only


class Metrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[metrics]: /metrics on the HTTP port, for loopback only."""

    enabled: bool = True


class MemoryState(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="backend", tag="memory"
):
    """[state] backend = "memory"."""

    url: str = ""  # belongs to backend = "redis"


class RedisState(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="backend", tag="redis"
):
    """[state] backend = "redis": what boxes share."""

    url: str  # redis://host:6379/0, rediss://…, redis+sentinel://h1,h2/service/0, redis+cluster://…
    user: str = ""  # an ACL user
    password_file: str = ""
    sentinel_password_file: str = ""
    ca_file: str = ""  # "" trusts the system's certificates
    cert_file: str = ""  # a client certificate, with key_file
    key_file: str = ""
    prefix: Name = "smartair"  # of keys and channels
    connections: Annotated[int, Meta(ge=2, le=1000)] = 16
    timeout_s: Annotated[float, Meta(gt=0)] = 2.0  # connect, and each command


class NoStream(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="backend", tag="none"
):
    """[stream] backend = "none": nothing leaves the box."""

    servers: str = ""  # belongs to backend = "kafka"
    prefix: str = "smartair"  # of Kafka's topics; belongs to backend = "kafka"


class KafkaStream(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="backend", tag="kafka"
):
    """[stream] backend = "kafka"."""

    servers: str  # "host:9092,host2:9092"
    prefix: Name = (
        "smartair"  # topics <prefix>.pose, .sensor, .state, .event, .dead-letter, .canary
    )
    tls: bool = False
    ca_file: str = ""  # "" trusts the system's certificates
    cert_file: str = ""  # a client certificate, with key_file
    key_file: str = ""
    sasl: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    user: str = ""
    password_file: str = ""
    compression: Literal["none", "gzip", "lz4", "zstd"] = "lz4"
    batch_bytes: Size = "512KiB"  # of one partition, before compression
    max_record_bytes: Size = "1MiB"  # what the brokers take (message.max.bytes)
    create_topics: bool = True  # else they must be there, and are checked
    partitions: Annotated[int, Meta(ge=1, le=1000)] = 6  # of topics that are created
    replication: Annotated[int, Meta(ge=-1, le=10)] = -1  # -1: what the brokers are set to
    timeout_s: Annotated[float, Meta(gt=0)] = 5.0  # connect, and each request
    drain_factor: Annotated[float, Meta(ge=1.5, le=1000)] = (
        5.0  # times the live rate, after an outage
    )
    consume: bool = True  # read every box's records back into [state]
    group: str = ""  # "" makes <prefix>-state, or one of its own for a box with [state] memory


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[limits]: rate limits, connection limits, bans; reserved, not there yet."""

    enabled: bool = False


class Filter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[filter]: the request filter; reserved, not there yet."""

    mode: Literal["off", "monitor", "block"] = "off"


class Upstream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[upstream.NAME]: servers that a route can be sent to; reserved, not there yet."""

    servers: tuple[str, ...]


class RouteRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[route]]: where a path goes; reserved, not there yet."""

    path: str
    to: str
    host: str = ""
    strip: bool = False


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[log]."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of edge.toml; every table may be left out."""

    site: Site = field(default_factory=Site)
    data: Data = field(default_factory=Data)
    http: Http = field(default_factory=Http)
    tls: Tls = field(default_factory=Tls)
    auth: Auth = field(default_factory=Auth)
    bus: EmbeddedBus | MqttBus = field(default_factory=EmbeddedBus)
    journal: JournalConfig = field(default_factory=JournalConfig)
    records: SqliteRecords | PostgresRecords = field(default_factory=SqliteRecords)
    live: Live = field(default_factory=Live)
    state: MemoryState | RedisState = field(default_factory=MemoryState)
    stream: NoStream | KafkaStream = field(default_factory=NoStream)
    metrics: Metrics = field(default_factory=Metrics)
    limits: Limits = field(default_factory=Limits)
    filter: Filter = field(default_factory=Filter)
    upstream: dict[str, Upstream] = field(default_factory=dict)
    route: tuple[RouteRule, ...] = ()
    log: Log = field(default_factory=Log)
