"""The running gateway against its own document: examples, coverage, fuzzing, links.

The same cases every time. More of them, and others: ``python -m tests.conformance``.
"""

from pathlib import Path

import pytest

from tests.conformance.rig import furnished, schemathesis, unharmed

# Apart and at the same time, because a posted reading is answered when it is in history: 50 ms.
PARTS = (
    ("--phases=coverage", "--include-path=/api/sensor-data"),
    ("--phases=coverage", "--exclude-path=/api/sensor-data"),
    ("--phases=examples,fuzzing,stateful", "--max-examples=25"),
)


@pytest.mark.timeout(300)
def test_the_gateway_keeps_what_its_document_says(tmp_path: Path) -> None:
    with furnished(tmp_path) as gateway:
        runs = [schemathesis(gateway, "--generation-deterministic", *part) for part in PARTS]
        outputs = [run.communicate()[0] for run in runs]
        for run, output in zip(runs, outputs, strict=True):
            assert run.returncode == 0, output
            assert "No issues found" in output
        assert unharmed(gateway) == []
