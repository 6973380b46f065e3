"""Install what the tests use: ``python -m tests.services [PROGRAM…]``."""

import sys
import time

from tests.services.programs import PROGRAMS, USED, Missing, find, provide, say


def main(names: list[str]) -> int:
    """Provide ``names`` (all that some test uses when empty); return 1 when one is missing."""
    unknown = sorted(set(names) - set(PROGRAMS))
    if unknown:
        say(f"unknown: {', '.join(unknown)}; known: {', '.join(PROGRAMS)}")
        return 2
    missing = 0
    for name in names or USED:
        begun = time.monotonic()
        here = find(name)
        try:
            path = provide(name)
        except Missing as why:
            missing += 1
            say(f"{name}: MISSING: {why}")
        else:
            how = "found" if here else f"installed in {time.monotonic() - begun:.0f} s"
            say(f"{name}: {path} ({how})")
    return 1 if missing else 0


sys.exit(main(sys.argv[1:]))
