"""A real Apache Kafka which can be killed, stopped in its tracks and brought back."""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.services.kafka_jars import need_jars
from tests.services.process import Process, free_port
from tests.services.programs import need
from tests.services.server import Server

TOOL_S: Final = 60.0
"""Longest that one of Kafka's own command line tools may take."""

_CLUSTER: Final = "ZWRnZS1nYXRld2F5LXRlcw"  # any 16 bytes in base64url
_JVM: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")  # starts sooner
_SIMPLE_LOG: Final = "-Dorg.slf4j.simpleLogger."


@dataclass(frozen=True, slots=True)
class KafkaLogin:
    """A listener for clients that log in (SASL) if there are ``users``, by TLS if there is a key.

    ``users`` (name -> password) may use PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. ``key`` (PKCS #8),
    ``cert`` and ``ca`` are PEM files; with ``mutual`` clients have to show a certificate.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    mutual: bool = False

    @property
    def protocol(self) -> str:
        """Kafka's name for it."""
        if self.users:
            return "SASL_SSL" if self.key else "SASL_PLAINTEXT"
        assert self.key, "neither users nor a key"
        return "SSL"


class Kafka(Server):
    """One broker and controller in a process, on 127.0.0.1, with its log in ``folder``.

    ``port`` is the plain listener. With ``proxy_port`` there is a second one, ``proxied_port``,
    that tells its clients to connect to 127.0.0.1:``proxy_port``: what stands in between never
    loses them. With ``login`` there is one for clients that log in, ``login_port``. ``properties``
    are added to server.properties. Topics are made by those who need them (``create_topics``)
    unless ``auto.create.topics.enable`` says otherwise. All ports stay over ``kill`` and ``start``.
    It starts in seconds, so that most tests share one (the fixture ``kafka``).
    """

    title: ClassVar[str] = "kafka"

    def __init__(
        self,
        folder: Path,
        properties: Mapping[str, str] | None = None,
        *,
        proxy_port: int = 0,
        login: KafkaLogin | None = None,
        jvm: Sequence[str] = ("-Xms128m", "-Xmx512m", *_JVM),
    ) -> None:
        super().__init__(folder)
        self.proxy_port = proxy_port
        self.proxied_port = 0
        self.login_port = 0
        self._controller_port = 0
        self._properties = dict(properties or {})
        self._login = login
        self._jvm = list(jvm)

    @property
    def servers(self) -> str:
        """Its address for clients: the plain listener, which no proxy disturbs."""
        return f"127.0.0.1:{self.port}"

    @property
    def proxied_servers(self) -> str:
        """Its address for clients that go through the proxy."""
        assert self.proxy_port, "made without a proxy"
        return f"127.0.0.1:{self.proxy_port}"

    @property
    def login_servers(self) -> str:
        """Its address for clients that log in; its certificate has to name ``localhost``."""
        assert self._login, "made without a login"
        return f"localhost:{self.login_port}"

    def create_topics(
        self, names: Iterable[str], *, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        """Make topics; returns when they are there."""
        client = AdminClient({"bootstrap.servers": self.servers})
        new = [NewTopic(name, partitions, 1, config=dict(config or {})) for name in names]
        for made in client.create_topics(new, operation_timeout=30).values():
            made.result(30)

    def tool_command(self, main_class: str, *arguments: str) -> list[str]:
        """Return the command that runs one of Kafka's own tools, for ``Process``."""
        options = ["-Xmx256m", *_JVM, f"{_SIMPLE_LOG}defaultLogLevel=warn"]
        return [*self._java(options, main_class), *arguments]

    def tool(self, main_class: str, *arguments: str, stdin: str = "") -> str:
        """Run one of Kafka's own tools (``org.apache.kafka.tools.TopicCommand``); its output.

        It takes a second or more; a failure raises with what it said.
        """
        done = subprocess.run(
            self.tool_command(main_class, *arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TOOL_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _launch(self, port: int) -> Process:
        if self.port == 0:
            self._controller_port, self.proxied_port, self.login_port = (
                free_port() for _ in range(3)
            )
        settings = self._configure(port)
        if not (self.folder / "log" / "meta.properties").exists():
            self._format(settings)
        log = [f"{_SIMPLE_LOG}defaultLogLevel=warn", f"{_SIMPLE_LOG}log.kafka.server=info"]
        return Process(
            [*self._java([*self._jvm, *log], "kafka.Kafka"), str(settings)], folder=self.folder
        )

    def _serves(self, line: str) -> bool:
        return "Kafka Server started" in line

    def _java(self, options: Sequence[str], main_class: str) -> list[str]:
        return [str(need("java")), *options, "-cp", f"{need_jars()}/*", main_class]

    def _format(self, settings: Path) -> None:
        scram = [
            f"--add-scram=SCRAM-SHA-{bits}=[name={name},password={password}]"
            for name, password in (self._login.users if self._login else {}).items()
            for bits in (256, 512)
        ]
        arguments = ["format", "-t", _CLUSTER, "-c", str(settings), *scram]
        self.tool("kafka.tools.StorageTool", *arguments)

    def _configure(self, port: int) -> Path:
        listeners = {"PLAIN": ("PLAINTEXT", port, port)}
        if self.proxy_port:
            listeners["PROXIED"] = ("PLAINTEXT", self.proxied_port, self.proxy_port)
        login: dict[str, str] = {}
        if self._login:
            listeners["LOGIN"] = (self._login.protocol, self.login_port, self.login_port)
            login = _login_properties(self._login, self.folder)
        protocols = {name: protocol for name, (protocol, _, _) in listeners.items()}
        everybody = {"CONTROLLER": ("", self._controller_port, 0), **listeners}
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAIN",
            "listeners": ",".join(f"{n}://127.0.0.1:{at}" for n, (_, at, _) in everybody.items()),
            "advertised.listeners": ",".join(
                f"{name}://{'localhost' if name == 'LOGIN' else '127.0.0.1'}:{advertised}"
                for name, (_, _, advertised) in listeners.items()
            ),
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}"
                for name, protocol in {"CONTROLLER": "PLAINTEXT", **protocols}.items()
            ),
            "log.dirs": f"{self.folder}/log",
            "num.partitions": "1",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "num.recovery.threads.per.data.dir": "1",
            "log.cleaner.dedupe.buffer.size": "4194304",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            "broker.heartbeat.interval.ms": "500",
            "broker.session.timeout.ms": "3000",  # after a kill it registers again only then
            **login,
            **self._properties,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        path.chmod(0o600)
        return path


def _login_properties(login: KafkaLogin, folder: Path) -> dict[str, str]:
    prefix = "listener.name.login."
    settings: dict[str, str] = {}
    if login.users:
        names = " ".join(f'user_{name}="{password}"' for name, password in login.users.items())
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
        settings |= {
            f"{prefix}sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"{prefix}plain.sasl.jaas.config": f"{plain} required {names};",
            f"{prefix}scram-sha-256.sasl.jaas.config": f"{scram} required;",
            f"{prefix}scram-sha-512.sasl.jaas.config": f"{scram} required;",
        }
    if login.key and login.cert and login.ca:
        both = folder / "listener.pem"
        both.touch(mode=0o600)
        both.write_text(login.key.read_text() + login.cert.read_text())
        settings |= {
            f"{prefix}ssl.keystore.type": "PEM",
            f"{prefix}ssl.keystore.location": str(both),
            f"{prefix}ssl.truststore.type": "PEM",
            f"{prefix}ssl.truststore.location": str(login.ca),
            f"{prefix}ssl.client.auth": "required" if login.mutual else "none",
        }
    return settings
