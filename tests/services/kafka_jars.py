"""Where Apache Kafka's jars are: Maven copies them once into a cache outside the checkout."""

import hashlib
import os
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Final

from tests.services.programs import Missing, installing, provide, run, say, unavailable

_POM: Final = Path(__file__).with_name("pom.xml")
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_guard = threading.Lock()


def version() -> str:
    """Return the version of Kafka that pom.xml asks for."""
    found = re.search(r"<kafka\.version>([0-9.]+)</kafka\.version>", _POM.read_text())
    assert found, f"{_POM} names no kafka.version"
    return found[1]


def jars_place() -> Path:
    """Return the folder that the jars are, or will be, in; another one when pom.xml changes."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(_POM.read_bytes()).hexdigest()[:8]
    return cache / "edge-gateway-tests" / f"kafka-{version()}-{digest}"


def provide_jars() -> Path:
    """Return the folder with Kafka's jars, fetching them first if need be.

    Raises:
        Missing: they are not here, and could not be fetched.
    """
    place = jars_place()
    with _guard:
        if not place.is_dir():
            maven = provide("mvn")
            with installing():
                if not place.is_dir():  # another run may have fetched them meanwhile
                    _fetch(maven, place)
    return place


def need_jars() -> Path:
    """Return the folder with Kafka's jars for a test, or skip the test with the reason."""
    try:
        return provide_jars()
    except Missing as missing:
        unavailable(str(missing))


def _fetch(maven: Path, place: Path) -> None:
    say(f"Apache Kafka {version()}: Maven fetches its jars into {place}")
    begun = time.monotonic()
    part = place.with_name(f"{place.name}.part-{os.getpid()}")
    try:
        part.mkdir(parents=True)
        problem = run(
            [
                *(str(maven), "-q", "-B", "-Dstyle.color=never", "-f", str(_POM), _COPY),
                *("-DincludeScope=runtime", f"-DoutputDirectory={part}"),
            ]
        )
        if problem:
            raise Missing(f"Kafka's jars could not be fetched: {problem}")
        part.rename(place)  # whole or not at all
    except OSError as error:
        raise Missing(f"Kafka's jars cannot be kept in {place}: {error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    size = sum(jar.stat().st_size for jar in place.iterdir())
    took_s = time.monotonic() - begun
    say(f"Apache Kafka {version()}: {size / 1e6:.0f} MB fetched in {took_s:.0f} s")
