"""The ``mqtt`` backend of the bus: client of a broker, for ever."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from gateway.aio.supervisor import Supervisor
from gateway.bus.client.connection import Connection, Session
from gateway.bus.client.control import Control
from gateway.bus.client.handshake import Away, VersionRefused, introduce, open_connection, watch
from gateway.bus.client.identity import Login, Unusable, load_login, parse_address
from gateway.bus.client.wire import Greeting, Wire
from gateway.bus.client.wire5 import Wire5
from gateway.bus.client.wire311 import Wire311
from gateway.bus.port import BusStatus, Sink
from gateway.config.model import MqttBus
from gateway.core.backoff import Backoff
from gateway.core.topics import filters

log = logging.getLogger(__name__)

BACKOFF: Final = Backoff(base_s=0.5, cap_s=2.5)  # what waits for the broker waits no longer
_STEADY_S: Final = 10.0  # a connection that held so long makes the next pause short again
_CLOSE_S: Final = 1.0
_PROBE_S: Final = 4.0  # for the broker to acknowledge a probe
_CUT: Final = "cut off by a drill"


@asynccontextmanager
async def connect(
    config: MqttBus,
    sink: Sink,
    *,
    site: str,
    box: str = "",
    client_id: str = "",
    backoff: Backoff = BACKOFF,
) -> AsyncIterator["ClientBus"]:
    """Open the bus at once, whether the broker is there or not, and keep it connected.

    What robots of ``site`` publish, and the canaries of ``box``, go to ``sink``, at least once for
    QoS 1 and 2. While we are away the broker keeps it for ``session_expiry_s``; with MQTT 3.1.1 for
    as long as it is set to. Two clients with one id would throw each other out for ever:
    ``client_id`` is this box's own, unless the configuration has one.
    Packets over 16 MiB are not taken: a broker that speaks 5 drops them, with 3.1.1 they end the
    connection.

    Raises:
        ConfigError: ``bus.url`` is not usable.
    """
    bus = ClientBus(config, sink, site=site, box=box, client_id=client_id, backoff=backoff)
    async with Supervisor() as tasks:
        tasks.spawn("bus session", bus.run)
        tasks.spawn("bus control", bus.control.run)
        try:
            yield bus
        finally:
            bus.control.stop()


class ClientBus:
    """See ``port.Bus``. A connection lost while reading is paused comes back after ``resume``."""

    def __init__(
        self,
        config: MqttBus,
        sink: Sink,
        *,
        site: str,
        box: str,
        client_id: str,
        backoff: Backoff,
    ) -> None:
        self._config = config
        self._sink = sink
        self._address = parse_address(config.url)
        self._client_id = config.client_id or client_id or f"edge-gateway-{site}"
        self._filters = filters(prefix=config.prefix, site=site, box=box)
        self._backoff = backoff
        self._rng = Random()  # noqa: S311 - jitter, not a secret
        self._session = Session()
        self._connection: Connection | None = None  # subscribed
        self._line: Connection | None = None  # open, subscribed or not
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._whole = asyncio.Event()  # not severed
        self._whole.set()
        self._detail = "connecting"
        self._next_at: float | None = None
        self._connects = self._failures = self._lost = 0
        place = f"{site}/{box}" if box else site  # a box that dies says nothing of the others
        self.control = Control(
            config,
            self._address,
            client_id=f"{self._client_id}-control",
            topic=f"{config.prefix}-gateway/{place}/status",
            backoff=backoff,
        )

    def pause(self) -> None:
        """Stop reading; pings go on."""
        self._resumed.clear()
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read again."""
        self._resumed.set()
        if self._connection is not None:
            self._connection.resume()

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> None:
        """Publish over the control connection; see ``port.Bus.publish``."""
        await self.control.publish(topic, payload, qos=qos, retain=retain)

    async def probe(self, topic: str, payload: bytes) -> None:
        """Publish over the control connection; it comes back over the data connection.

        The data connection is asked for a sign of life as well: one that swallows everything is
        given up ``timeout_s`` later, whatever the keep-alive is.
        """
        if self._connection is not None:
            self._connection.prod()
        timeout_s = min(_PROBE_S, self._config.timeout_s)
        await self.control.publish(topic, payload, qos=1, retain=False, timeout_s=timeout_s)

    def sever(self, cut: bool) -> None:  # noqa: FBT001 - see port.Bus
        """Drop both connections and make none until this is undone."""
        if not cut:
            self._whole.set()
            return
        self._whole.clear()
        self.control.stand_down()
        if self._line is not None:
            self._line.abort(_CUT)

    def status(self) -> BusStatus:
        """Return whether the broker is there, which one, and what the last failure was."""
        detail = f"{self._address}: {self._detail}"
        if self._next_at is not None:
            left_s = max(0.0, self._next_at - asyncio.get_running_loop().time())
            detail += f"; next attempt in {left_s:.1f} s"
        return BusStatus(self._connection is not None, detail, 0)

    def figures(self) -> Mapping[str, int]:
        """Return counters since the start, of messages and of connections."""
        return {
            "received": self._session.received,
            "acknowledged": self._session.acknowledged,
            "repeated": self._session.repeated,
            "connects": self._connects,
            "failures": self._failures,
            "sessions_lost": self._lost,
        }

    async def run(self) -> None:
        """Connect, and connect again, for ever."""
        loop = asyncio.get_running_loop()
        attempt, reason, said = 0, "", ""
        while True:
            if not self._resumed.is_set():  # an answer to CONNECT could not be read
                self._detail += "; waiting for the journal"
                await self._resumed.wait()
            if not self._whole.is_set():
                self._detail = _CUT
                await self._whole.wait()
            begun, connects = loop.time(), self._connects
            try:
                await self._attempt()
            except Away as away:
                reason = str(away)
            self._failures += 1
            if self._connects > connects:
                said = ""  # it had worked in between: say even the same reason again
                if loop.time() - begun > _STEADY_S:
                    attempt = 0
            pause_s = self._backoff.delay_s(attempt, self._rng)
            attempt += 1
            self._detail = f"away: {reason}"
            self._next_at = loop.time() + pause_s
            if reason != said:
                log.warning("bus away: broker=%s reason=%s", self._address, reason)
                said = reason
            await asyncio.sleep(pause_s)
            self._next_at = None

    async def _attempt(self) -> None:
        """Connect and stay connected; raises Away when that is over.

        Every attempt begins with MQTT 5 again: a broker that closed at once may only have been
        starting, and one that was upgraded need not be told to us.
        """
        if self._config.protocol != "3.1.1":
            try:
                await self._hold(Wire5(self._config.topic_aliases))
            except VersionRefused as refused:
                if self._config.protocol == "5":
                    raise
                log.info("bus tries MQTT 3.1.1: broker=%s reason=%s", self._address, refused)
        await self._hold(Wire311())

    async def _hold(self, wire: Wire) -> None:
        timeout_s = self._config.timeout_s
        try:
            login = await asyncio.to_thread(load_login, self._config, tls=self._address.tls)
            connection = await open_connection(
                self._address,
                login,
                lambda: Connection(wire, self._session, self._sink),
                timeout_s=timeout_s,
            )
        except TimeoutError as error:
            raise Away(f"no connection within {timeout_s:g} s") from error
        except ConnectionError as error:  # asyncio's own text repeats the address
            raise Away(os.strerror(error.errno) if error.errno else str(error)) from error
        except (OSError, UnicodeError, Unusable) as error:
            raise Away(str(error)) from error
        self._line = connection
        try:
            if not self._whole.is_set():
                raise Away(_CUT)
            ready = await introduce(
                connection,
                self._greeting(login),
                self._filters,
                version=wire.version,
                timeout_s=timeout_s,
            )
            self._stand_up(connection, wire, login, ready.refused)
            if self._connects > 1 and not ready.session_present:
                self._lost += 1
                log.warning("bus session was forgotten by the broker: broker=%s", self._address)
            raise Away(await watch(connection, keepalive_s=ready.keepalive_s, timeout_s=timeout_s))
        finally:
            self._connection = self._line = None
            self.control.stand_down()
            connection.leave()
            await asyncio.wait({connection.closed}, timeout=_CLOSE_S)
            connection.abort("not closed in time")

    def _greeting(self, login: Login) -> Greeting:
        config = self._config
        return Greeting(
            client_id=self._client_id,
            user=login.user,
            password=None if login.password is None else login.password.encode(),
            keepalive_s=config.keepalive_s,
            session_expiry_s=config.session_expiry_s,
            receive_maximum=config.receive_maximum,
            topic_aliases=config.topic_aliases,
        )

    def _stand_up(
        self, connection: Connection, wire: Wire, login: Login, refused: Sequence[str]
    ) -> None:
        self._connection = connection
        self._connects += 1
        self._detail = f"MQTT {wire.version}"
        log.info("bus connected: broker=%s version=%s", self._address, wire.version)
        if refused:
            self._detail += f"; subscriptions refused: {', '.join(refused)}"
            log.error("bus subscriptions refused: broker=%s %s", self._address, refused)
        if not self._resumed.is_set():
            connection.pause()
        self.control.stand_up(login, version=wire.version)
