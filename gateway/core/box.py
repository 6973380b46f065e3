"""What a gateway is called among several."""

import re
from typing import Final

_OTHER: Final = re.compile(r"[^A-Za-z0-9_.:-]")
_HOST_CHARS: Final = 57  # with "-" and the digits an id of 64 characters
_DIGITS: Final = 6


def client_id(site: str, configured: str, epoch: str) -> str:
    """Return the MQTT client id at a broker: no other box of the site has it.

    It stays as long as the data directory does, for the broker keeps messages for it. The host name
    is no part of it: a container that is made anew has another one.
    """
    return f"edge-gateway-{site}-{configured or epoch[:_DIGITS]}"


def box_id(configured: str, host: str, epoch: str) -> str:
    """Return ``configured``, or else ``<host name>-<6 hex digits>``.

    ``epoch`` is the journal's: two boxes with one host name, or a box whose disk was replaced, are
    told apart by it. What an id may not hold becomes "-" in the host name.
    """
    if configured:
        return configured
    return f"{_OTHER.sub('-', host)[:_HOST_CHARS] or 'box'}-{epoch[:_DIGITS]}"
