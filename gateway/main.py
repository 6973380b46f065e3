"""The composition root: the only module that knows every part.

Read ``serve`` from top to bottom for the start order, and backwards for the shutdown order: sockets
close and streams end first, then the tasks stop, then the journal and the stores close.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.aio.looplag import LoopLag
from gateway.aio.supervisor import Supervisor
from gateway.beyond import open_beyond
from gateway.bus.open import address, open_bus
from gateway.config.model import Config, MqttBus
from gateway.core.box import box_id, client_id
from gateway.journal.open import open_journal
from gateway.records.open import open_records
from gateway.services.archive import KINDS, Archive
from gateway.services.deadletters import DeadLetters
from gateway.services.drill import Drill
from gateway.services.figures import Figures
from gateway.services.history import History
from gateway.services.ingest import Ingest
from gateway.services.intake import Intake
from gateway.services.ledger import Ledger
from gateway.services.live import Live
from gateway.services.overview import box_hops, wire_ledger, wire_readiness
from gateway.services.readiness import Readiness
from gateway.services.robots import Robots
from gateway.services.sightings import sightings
from gateway.web.access import Access
from gateway.web.app import build_app, listening
from handlers.admin import AdminRoutes
from handlers.drill import DrillRoutes
from handlers.events import EventRoutes
from handlers.health import HealthRoutes
from handlers.openapi import OpenApiRoutes
from handlers.robots import RobotRoutes
from handlers.sensor_data import SensorDataRoutes
from handlers.spa import SpaRoutes
from handlers.why import WhyRoutes
from handlers.ws import WsRoutes


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the gateway answers; an empty string is a listener that is off."""

    http: str
    https: str
    mqtt: str


def now_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


async def serve(config: Config, stop: asyncio.Event, on_ready: Callable[[Listening], None]) -> None:
    """Run the gateway until ``stop`` is set. ``on_ready`` is called when every listener is open.

    Raises:
        OSError: a port or the data directory cannot be used; the message says what to change.
    """
    directory = config.data.dir
    ledger, readiness, lag = Ledger(now_ms()), Readiness(now_ms), LoopLag()
    live, prefix, site = Live(config.live), config.bus.prefix, config.site.id
    async with open_journal(config.journal, directory) as journal:
        epoch = journal.stats().epoch
        box = box_id(config.site.box, socket.gethostname(), epoch)
        client = client_id(config.site.id, config.site.box, epoch)
        async with (
            open_records(config.records, directory, box=box) as store,
            open_beyond(config, live, box=box, now_ms=now_ms) as beyond,
            Supervisor() as tasks,
        ):
            ingest = Ingest(
                journal, beyond.publish, prefix=prefix, site=site, now_ms=now_ms,
                box=box, heard=beyond.heard,
            )  # fmt: skip
            reader = journal.reader("records", KINDS)
            archive = Archive(reader, store, seen=sightings(live))
            tasks.spawn("loop lag", lag.run)
            tasks.spawn("journal to history", archive.run)
            tasks.spawn("live view", live.run)
            opening = open_bus(config.bus, ingest, site=site, box=box, client_id=client)
            async with opening as bus:
                journal.on_pressure(bus.pause, bus.resume)
                recorder = beyond.start(
                    tasks, box_hops(journal, reader, archive),
                    journal=journal, ingest=ingest, bus=bus, store=store,
                )  # fmt: skip
                wire_ledger(ledger, journal, ingest, live, archive)
                wire_readiness(readiness, journal, bus, archive)
                beyond.wire(ledger, readiness, journal)
                parts = {"bus": bus.figures, "live": live.figures, **beyond.figures()}
                figures = Figures(ledger, journal, lag, parts=parts)
                history = History(
                    store, Intake(ingest, journal, archive), timezone=config.site.timezone
                )
                mqtt = address(bus)
                broker = config.bus.url if isinstance(config.bus, MqttBus) else mqtt
                links = {"broker": bus.sever, "records": store.sever, **beyond.links()}
                drill = Drill(links, now_ms=now_ms)
                page = SpaRoutes(mqtt=broker, topics=f"{prefix}/{site}")
                routes = [
                    *AdminRoutes(ledger, journal, DeadLetters(store, ingest)).routes(),
                    *DrillRoutes(drill).routes(),
                    *EventRoutes(live, config.live).routes(),
                    *HealthRoutes(readiness, figures).routes(),
                    *page.routes(),
                    *RobotRoutes(Robots(store, live)).routes(),
                    *SensorDataRoutes(history).routes(),
                    *WhyRoutes(recorder).routes(),
                    *WsRoutes(live).routes(),
                ]
                routes += OpenApiRoutes(routes).routes()
                access = Access.on_loopback(config.http.host)
                app = build_app(routes, http=config.http, on_drain=live.close, access=access)
                async with listening(app, config.http) as (host, port):
                    on_ready(Listening(f"http://{host}:{port}", "", mqtt))
                    await stop.wait()
                    readiness.stopping()
