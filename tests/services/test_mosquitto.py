"""The broker that the other tests rely on does what they rely on."""

import subprocess

from tests.services import need
from tests.services.mosquitto import Mosquitto


def _publish(broker: Mosquitto, payload: str) -> None:
    address = ["-h", "127.0.0.1", "-p", str(broker.port)]
    message = ["-q", "1", "-r", "-t", "a/b", "-m", payload]
    subprocess.run([str(need("mosquitto_pub")), *address, *message], check=True, timeout=10)


def _retained(broker: Mosquitto) -> str:
    address = ["-h", "127.0.0.1", "-p", str(broker.port)]
    command = [str(need("mosquitto_sub")), *address, "-t", "a/#", "-C", "1", "-W", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return done.stdout.strip()


async def test_what_was_saved_survives_a_kill(mosquitto: Mosquitto) -> None:
    _publish(mosquitto, "kept")
    await mosquitto.save()
    _publish(mosquitto, "lost with the process")
    mosquitto.kill()
    mosquitto.start()
    assert _retained(mosquitto) == "kept"


async def test_a_frozen_broker_goes_on_when_thawed(mosquitto: Mosquitto) -> None:
    mosquitto.freeze()
    mosquitto.thaw()
    _publish(mosquitto, "1")
    assert _retained(mosquitto) == "1"
