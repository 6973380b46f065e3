"""What every test gets: a loop that must not be blocked."""

import os
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

pytest_plugins = ["tests.services.plugin"]

# Drills of minutes exist only with EDGE_LONG=1; skipped ones would hide a server that is missing.
collect_ignore = [] if os.environ.get("EDGE_LONG") == "1" else ["cli/test_selftest_links.py"]


@pytest.fixture(autouse=True)
def blockbuster(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Fail a test in which our code makes a blocking call on the event loop."""
    if request.node.get_closest_marker("may_block"):
        yield None
        return
    with blockbuster_ctx(scanned_modules=["gateway", "handlers"]) as blocked:
        yield blocked
