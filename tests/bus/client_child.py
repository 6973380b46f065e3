"""A process for a test to kill: takes messages, says so, and acknowledges none."""

import asyncio
import sys

from gateway.bus.client.session import connect
from gateway.bus.port import Batch
from tests.bus.client_rig import SITE, mqtt_config


class Teller:
    """Print every payload."""

    def take(self, batch: Batch) -> None:
        """Say what came; keep the acknowledgement back."""
        for _, payload in batch.items:
            sys.stdout.write(f"took {payload.decode()}\n")
        sys.stdout.flush()


async def main(port: int) -> None:
    """Run until killed."""
    async with connect(mqtt_config(port), Teller(), site=SITE):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
