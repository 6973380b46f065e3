"""The command line: one short function per command, which imports what it runs."""

import enum
import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli import journal
from gateway.cli.options import ConfigFile, Json, Sets, configured

app = typer.Typer(
    help="The edge gateway: devices' MQTT server, durable journal, live view, history and API.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(journal.app, name="journal")


@app.command()
def run(config: ConfigFile = None, sets: Sets = None) -> None:
    """Serve until SIGINT or SIGTERM; prints "listening ..." when every listener is open."""
    loaded = configured(config, sets)
    from gateway.cli.run import run as serve

    raise typer.Exit(serve(loaded.config, os.environ))


@app.command()
def check(config: ConfigFile = None, sets: Sets = None, as_json: Json = False) -> None:
    """Validate the configuration and print what differs from the defaults."""
    loaded = configured(config, sets, as_json=as_json)
    from gateway.cli.check import report

    report(loaded, as_json=as_json)


@app.command()
def doctor(config: ConfigFile = None, sets: Sets = None, as_json: Json = False) -> None:
    """Look at this machine: what is installed, writable, reachable, and what to do about it."""
    loaded = configured(config, sets, as_json=as_json)
    from gateway.cli.doctor import examine

    raise typer.Exit(examine(loaded, as_json=as_json))


@app.command()
def simulate(
    config: ConfigFile = None,
    sets: Sets = None,
    robots: Annotated[int, typer.Option(min=1, max=100_000, help="How many robots.")] = 5,
    hz: Annotated[float, typer.Option(min=0.01, max=1000, help="Poses per second and robot.")] = 5,
    qos: Annotated[int, typer.Option(min=0, max=2, help="Of poses; the rest is QoS 1.")] = 0,
    host: Annotated[str, typer.Option(help="The broker; default from the configuration.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: from the configuration.")] = 0,
    prefix: Annotated[str, typer.Option(help="Topic prefix; default from the configuration.")] = "",
    site: Annotated[str, typer.Option(help="Site; default from the configuration.")] = "",
    duration: Annotated[float, typer.Option(min=0, help="Seconds; 0 until Ctrl-C.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed drives the same way.")] = 1,
    connections: Annotated[
        int, typer.Option(min=1, max=10_000, help="At most; above it robots share them.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """Robots that drive through a flat and sense its air, over MQTT; they obey commands."""
    loaded = configured(config, sets, as_json=as_json)
    from gateway.cli.simulate import simulate as drive
    from gateway.cli.target import Plan, Target

    target = Target.of(loaded.config, host=host, port=port, prefix=prefix, site=site)
    plan = Plan(
        robots=robots, hz=hz, qos=qos, duration_s=duration, seed=seed, connections=connections
    )
    raise typer.Exit(drive(target, plan, as_json=as_json))


@app.command()
def watch(
    config: ConfigFile = None,
    sets: Sets = None,
    url: Annotated[
        str, typer.Option(help="The gateway, as http://host:8080; default from the configuration.")
    ] = "",
    as_json: Json = False,
) -> None:
    """A live table of the robots, over the gateway's own WebSocket."""
    loaded = configured(config, sets, as_json=as_json)
    from gateway.cli.watch import watch as follow

    raise typer.Exit(follow(loaded.config, url, as_json=as_json))


@app.command()
def why(
    robot: Annotated[str, typer.Argument(help="Its id, as in the topic of its messages.")],
    config: ConfigFile = None,
    sets: Sets = None,
    url: Annotated[
        str, typer.Option(help="The gateway, as http://host:8080; default from the configuration.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Where a robot's messages of the last 15 minutes are, hop by hop, and why."""
    loaded = configured(config, sets, as_json=as_json)
    from gateway.cli.why import why as explain

    raise typer.Exit(explain(loaded.config, url, robot, as_json=as_json))


@app.command()
def demo(
    config: ConfigFile = None,
    sets: Sets = None,
    robots: Annotated[int, typer.Option(min=1, max=1000, help="How many robots.")] = 5,
    hz: Annotated[float, typer.Option(min=0.01, max=100, help="Poses per second and robot.")] = 5,
    keep: Annotated[
        bool, typer.Option("--keep", help="Use data.dir instead of a temporary directory.")
    ] = False,
) -> None:
    """The gateway with a simulated fleet; prints the address to open."""
    loaded = configured(config, sets)
    from gateway.cli.demo import demo as show

    raise typer.Exit(show(loaded.config, os.environ, robots=robots, hz=hz, keep=keep))


class Cut(enum.StrEnum):
    """What a selftest can cut."""

    KAFKA = "kafka"
    REDIS = "redis"
    BROKER = "broker"
    RECORDS = "records"


_LENGTH: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m)?")
_LONGEST_S: Final = 600.0


def _seconds(text: str) -> float:
    match = _LENGTH.fullmatch(text.strip())
    seconds = float(match[1]) * (60 if match[2] == "m" else 1) if match else 0.0
    if not 1.0 <= seconds <= _LONGEST_S:
        raise typer.BadParameter(
            f"{text!r} is no time from 1s to 10m, as 60s or 2m", param_hint="--for"
        )
    return seconds


@app.command()
def selftest(
    config: ConfigFile = None,
    sets: Sets = None,
    cut: Annotated[
        Cut | None, typer.Option(help="The link that is cut; nothing without.", show_default=False)
    ] = None,
    for_: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long, from 1s to 10m.")
    ] = "60s",
    robots: Annotated[int, typer.Option(min=1, max=200, help="Synthetic robots.")] = 10,
    rate: Annotated[float, typer.Option(min=1, max=2_000, help="Messages per second.")] = 200,
    url: Annotated[
        str, typer.Option(help="The gateway, as http://host:8080; default from the configuration.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Cut a link on purpose, keep publishing, and prove that nothing is lost."""
    for_s = _seconds(for_)
    loaded = configured(config, sets, as_json=as_json)
    from gateway.cli.selftest import selftest as prove
    from gateway.cli.selftest_verdict import Order

    order = Order(cut=cut.value if cut else "", for_s=for_s, robots=robots, rate=rate)
    words = _words(config, sets)
    raise typer.Exit(prove(loaded.config, order, url=url, words=words, as_json=as_json))


def _words(config: Path | None, sets: list[str] | None) -> list[str]:
    """Return --config and --set as they were given, for a gateway of the command's own."""
    words = [] if config is None else ["--config", str(config)]
    return words + [word for item in sets or [] for word in ("--set", item)]


@app.command()
def version(config: ConfigFile = None, sets: Sets = None, as_json: Json = False) -> None:
    """The version of the gateway and of what it runs on."""
    from gateway.cli.version import report

    report(as_json=as_json)
