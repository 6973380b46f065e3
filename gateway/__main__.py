"""``python -m gateway`` is ``edge-gateway``."""

import sys

from gateway.cli.app import app


def main() -> int:
    """Run the command in sys.argv and return its exit code."""
    app(prog_name="edge-gateway")
    return 0


if __name__ == "__main__":
    sys.exit(main())
