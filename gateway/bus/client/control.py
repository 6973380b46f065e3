"""The control side: what the gateway itself publishes, at low rates, on aiomqtt."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Final

import aiomqtt

from gateway.bus.client.identity import Address, Login
from gateway.config.model import MqttBus
from gateway.core.backoff import Backoff
from gateway.core.errors import Unavailable

log = logging.getLogger(__name__)

_FAREWELL_S: Final = 1.0  # a stop does not wait longer for the broker


class Control:
    """A second connection, up while the data connection is.

    Whether the gateway is there stands retained in ``topic``:
    ``{"state":"online"|"offline","ts":<Unix ms>}``; as a will too, with the time of the connect.
    """

    def __init__(
        self,
        config: MqttBus,
        address: Address,
        *,
        client_id: str,
        topic: str,
        backoff: Backoff,
    ) -> None:
        self._config = config
        self._address = address
        self._client_id = client_id
        self._topic = topic
        self._backoff = backoff
        self._rng = Random()  # noqa: S311 - jitter, not a secret
        self._wanted = asyncio.Event()
        self._renewed = asyncio.Event()  # the data connection came up: do not pause any longer
        self._lifetime: asyncio.Timeout | None = None  # of the connection that is up
        self._login: Login | None = None
        self._version = aiomqtt.ProtocolVersion.V5
        self._dropped: asyncio.Future[None] | None = None  # ends the wait for a connection
        self._given_up: set[asyncio.Task[None]] = set()
        self._client: aiomqtt.Client | None = None
        self._stopping = False

    def stand_up(self, login: Login, *, version: str) -> None:
        """Connect as the data connection did; it is up."""
        self._login = login
        self._version = (
            aiomqtt.ProtocolVersion.V5 if version == "5" else aiomqtt.ProtocolVersion.V311
        )
        self._wanted.set()
        self._renewed.set()

    def stand_down(self) -> None:
        """End the connection, and make no new one until ``stand_up``."""
        self._wanted.clear()
        self._drop()

    def _drop(self) -> None:
        """End a connection that does not answer; while one is wanted a new one is made."""
        self._client = None
        if self._dropped is not None and not self._dropped.done():
            self._dropped.set_result(None)
        if self._lifetime is not None and not self._lifetime.expired():
            self._lifetime.reschedule(asyncio.get_running_loop().time())

    @property
    def connected(self) -> bool:
        """Whether ``publish`` has somewhere to send to."""
        return self._client is not None

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        timeout_s: float | None = None,
    ) -> None:
        """Send, and wait for the broker's acknowledgement at QoS 1 and 2.

        A connection on which none comes in time is given up.

        Args:
            timeout_s: for the acknowledgement; None: as ``[bus] timeout_s``.
        Raises:
            Unavailable: as ``port.Bus.publish``; the message may have been sent all the same.
        """
        client = self._client
        if client is None:
            raise Unavailable("The MQTT broker is away.", dependency="bus")
        try:
            await client.publish(
                topic,
                payload,
                qos=qos,
                retain=retain,
                timeout=self._config.timeout_s if timeout_s is None else timeout_s,
            )
        except (aiomqtt.MqttError, ValueError) as error:
            if client is self._client and not isinstance(error, ValueError):
                self._drop()
            raise Unavailable(
                "The MQTT broker did not acknowledge in time.", dependency="bus"
            ) from error

    def stop(self) -> None:
        """Say that ``run`` is about to be cancelled.

        Before Python 3.12 ``asyncio.wait_for``, which aiomqtt uses, may lose a cancellation that
        comes together with its result; ``run`` then ends by this.
        """
        self._stopping = True

    async def run(self) -> None:
        """Stay connected while the data connection is up."""
        try:
            await self._stay_connected()
        finally:
            for task in self._given_up:
                task.cancel()

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            await self._wanted.wait()
            self._renewed.clear()
            try:
                async with self._connection() as client:
                    attempt = 0
                    await self._serve(client)
            except aiomqtt.MqttError as error:
                log.warning("bus control away: broker=%s reason=%s", self._address, error)
            self._end_if_stopping()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.delay_s(attempt, self._rng)):
                    await self._renewed.wait()
            attempt += 1

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiomqtt.Client]:
        """Yield a connected client; disconnect it in the end.

        aiomqtt leaves the socket open when it is cancelled while it connects, so a cancellation
        waits for it, though not for a broker that does not answer.
        """
        client = self._make()
        loop = asyncio.get_running_loop()
        connecting = loop.create_task(client.__aenter__())
        dropped = self._dropped = loop.create_future()
        try:
            await asyncio.wait({connecting, dropped}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait({connecting}, timeout=_FAREWELL_S)
            if done and connecting.exception() is None:
                await client.__aexit__(None, None, None)
            connecting.cancel()
            raise
        finally:
            self._dropped = None
        if not connecting.done():  # aiomqtt does not see it when such a connection is reset
            task = loop.create_task(_end(client, connecting))
            self._given_up.add(task)
            task.add_done_callback(self._given_up.discard)
            raise aiomqtt.MqttError("given up before it was answered")
        await connecting
        try:
            yield client
        finally:
            await client.__aexit__(None, None, None)

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Say that we are there, wait until the connection is lost, and if we leave say that."""
        self._end_if_stopping()
        try:
            async with asyncio.timeout(None) as lifetime:
                self._lifetime = lifetime
                if self._wanted.is_set():
                    await client.publish(self._topic, _state("online"), qos=1, retain=True)
                    self._end_if_stopping()
                    if lifetime.expired():  # may be lost as a cancellation may: see ``stop``
                        return
                    self._client = client
                    async for (
                        _
                    ) in client.messages:  # none was subscribed to: this waits for the end
                        pass
        except TimeoutError:
            log.info("bus control given up: broker=%s", self._address)
        except asyncio.CancelledError:
            self._client = self._lifetime = None
            await self._farewell(client)
            raise
        finally:
            self._client = self._lifetime = None

    def _end_if_stopping(self) -> None:
        if self._stopping:
            raise asyncio.CancelledError

    async def _farewell(self, client: aiomqtt.Client) -> None:
        try:
            await client.publish(
                self._topic, _state("offline"), qos=1, retain=True, timeout=_FAREWELL_S
            )
        except aiomqtt.MqttError as error:
            log.info("bus control left unsaid: broker=%s reason=%s", self._address, error)

    def _make(self) -> aiomqtt.Client:
        login = self._login
        assert login is not None, "stand_up comes first"  # noqa: S101
        will = aiomqtt.Will(self._topic, _state("offline"), qos=1, retain=True)
        return aiomqtt.Client(
            self._address.host,
            self._address.port,
            identifier=self._client_id,
            username=login.user,
            password=login.password,
            protocol=self._version,
            tls_context=login.tls,
            will=will,
            timeout=self._config.timeout_s,
            keepalive=self._config.keepalive_s,
            logger=log,
        )


def _state(state: str) -> bytes:
    return b'{"state":"%s","ts":%d}' % (state.encode(), time.time_ns() // 1_000_000)


async def _end(client: aiomqtt.Client, connecting: "asyncio.Task[aiomqtt.Client]") -> None:
    """Wait until a connection is there that nobody wants any more, or is not, and end it."""
    with suppress(aiomqtt.MqttError):
        await connecting
        await client.__aexit__(None, None, None)
