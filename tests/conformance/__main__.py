"""More cases than `make test` has time for: ``python -m tests.conformance --max-examples 1000``.

Options are those of ``schemathesis run``. The seed that it prints at the end repeats a run.
"""

import sys
import tempfile
from pathlib import Path

from tests.conformance.rig import furnished, schemathesis, unharmed


def main(options: list[str]) -> int:
    """Return schemathesis's exit code, 1 if the gateway itself says that something went wrong."""
    with (
        tempfile.TemporaryDirectory() as directory,
        furnished(Path(directory)) as gateway,
        schemathesis(gateway, *options) as run,
    ):
        assert run.stdout is not None
        for line in run.stdout:
            sys.stdout.write(line)
        code = run.wait()
        wrong = unharmed(gateway)
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return code or int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
