"""Certificates for the TLS listeners of a test: an authority and what it signed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.services.programs import need


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files; the server's certificate names ``localhost`` and 127.0.0.1."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, a server's and a client's certificate, good for a day, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key = folder / "ca.pem", folder / "ca-key.pem"
    _openssl("req", "-x509", "-subj", "/CN=authority", *_new_key(ca_key), "-out", str(ca))
    made: list[Path] = []
    for name in ("server", "client"):
        cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
        _openssl(
            *("req", "-x509", "-CA", str(ca), "-CAkey", str(ca_key)),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *(*_new_key(key), "-out", str(cert)),
        )
        made += [cert, key]
    return Certificates(ca, *made)


def _new_key(path: Path) -> list[str]:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    return [*curve, "-nodes", "-keyout", str(path), "-days", "1"]


def _openssl(*arguments: str) -> None:
    done = subprocess.run(
        [str(need("openssl")), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
