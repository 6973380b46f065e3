"""``edge-gateway why <robot>``: the flight recorder of a gateway that runs, as a table."""

import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.options import FAILED, UNREACHABLE, complain, write_json
from gateway.cli.target import gateway_url
from gateway.config.model import Config

_TIMEOUT_S: Final = 10.0
_STYLES: Final = {
    "delivered": "green",
    "waiting": "yellow",
    "stale": "yellow",
    "refused": "red",
    "dead-letter": "red",
}


def why(config: Config, url: str, robot: str, *, as_json: bool) -> int:
    """Ask the gateway and show what it answers."""
    base = gateway_url(config, url)
    try:
        answer = ask(base, robot)
    except urllib.error.HTTPError as exc:
        with exc:
            detail = _detail(exc)
        if exc.code == http.client.NOT_FOUND:
            complain(
                f"{base} knows no robot {robot!r}: look at its id (edge-gateway watch lists them),"
                " whether it publishes under this site's topics, and at /api/admin/dead-letters"
            )
            return FAILED
        complain(f"{base} answered {exc.code}: {detail}")
        return FAILED
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        complain(f"{base} does not answer ({reason}): is the gateway running? else give --url")
        return UNREACHABLE
    if as_json:
        write_json(answer)
    else:
        show(answer, Console())
    return os.EX_OK


def ask(base: str, robot: str) -> Any:
    """Return the answer of ``/api/admin/why``. Raises as ``urllib`` does."""
    request = urllib.request.Request(  # noqa: S310 - the user's own gateway
        f"{base}/api/admin/why/{quote(robot, safe='')}", headers={"Accept": "application/json"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=_TIMEOUT_S) as response:
        return json.load(response)


def _detail(exc: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(exc)["detail"])
    except (ValueError, KeyError, TypeError, OSError):
        return exc.reason


def show(answer: dict[str, Any], console: Console) -> None:
    """Print the answer: the hops now, then the messages, newest first."""
    console.print(_plain(f"{answer['robot']}: {answer['summary']['text']}", style="bold"))
    for hop in answer["hops"]:
        if not hop["ok"]:
            trouble = f"{hop['hop']}: {hop['reason']}; {hop['waiting']} wait there"
            if hop["dropped"]:
                trouble += f", {hop['dropped']} were dropped"
            console.print(_plain(trouble, style="red"))
    console.print(_messages(answer))
    kept = {(m["kind"], m["rts"], m["seq"]) for m in answer["messages"]}
    alone = [e for e in answer["exceptions"] if (e["kind"], e["rts"], e["seq"]) not in kept]
    for miss in alone:
        console.print(_plain(f"{miss['rts']} {miss['kind']} {miss['verdict']}: {miss['reason']}"))
    if answer["truncated"]:
        console.print("There was more in these 15 minutes than is shown.")


def _messages(answer: dict[str, Any]) -> Table:
    """Return one line for each message: under each hop when it had passed, ms after arrival."""
    hops = list(dict.fromkeys(hop["hop"] for m in answer["messages"] for hop in m["hops"]))
    hops = [hop for hop in hops if hop != "received"]
    order = ["journal", "live", *(hop["hop"] for hop in answer["hops"])]
    hops.sort(key=lambda hop: order.index(hop) if hop in order else len(order))
    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("received", "kind", "seq"):
        table.add_column(name)
    for hop in hops:
        table.add_column(f"{hop} ms", justify="right")
    for name in ("verdict", "why"):
        table.add_column(name, overflow="fold")
    for message in answer["messages"]:
        passed = {hop["hop"]: _cell(hop) for hop in message["hops"]}
        verdict = message["verdict"]
        table.add_row(
            Text(message["rts"][11:23]),
            message["kind"],
            "" if message["seq"] is None else str(message["seq"]),
            *(passed.get(hop, Text("")) for hop in hops),
            Text(verdict, style=_STYLES.get(verdict, "")),
            _plain(message["reason"]),
        )
    return table


def _cell(hop: dict[str, Any]) -> Text:
    if hop["verdict"] == "delivered":
        return Text("yes" if hop["ms"] is None else str(hop["ms"]))
    return Text(hop["verdict"], style=_STYLES.get(hop["verdict"], ""))


def _plain(text: str, style: str = "") -> Text:
    """Return ``text`` without what would move the cursor: devices chose some of its characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return Text(shown, style=style)
