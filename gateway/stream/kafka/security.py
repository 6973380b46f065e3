"""How a Kafka client logs in: TLS and SASL of [stream] as arguments of aiokafka's classes."""

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final

from gateway.config.model import KafkaStream
from gateway.core.errors import Unavailable

DEPENDENCY: Final = "kafka"


class Security:
    """TLS and SASL of [stream]."""

    def __init__(self, config: KafkaStream) -> None:
        self._config = config

    async def arguments(self) -> dict[str, Any]:
        """Return security_protocol, ssl_context and sasl_* for any aiokafka client or connection.

        The files are read every time, on a thread: ask before each new client, and a renewed
        certificate or password counts without a restart.

        Raises:
            Unavailable: a file cannot be read, or is not what it should be; the key is named.
        """
        return await asyncio.to_thread(self._arguments)

    def _arguments(self) -> dict[str, Any]:
        config = self._config
        wire = "SSL" if config.tls else "PLAINTEXT"
        found: dict[str, Any] = {
            "security_protocol": f"SASL_{wire}" if config.sasl else wire,
            "ssl_context": self._tls() if config.tls else None,
        }
        if config.sasl:
            found["sasl_mechanism"] = config.sasl
            found["sasl_plain_username"] = config.user
            found["sasl_plain_password"] = self._password()
        return found

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        try:
            context = ssl.create_default_context(cafile=config.ca_file or None)
        except (OSError, ValueError) as exc:
            raise _unusable("ca_file", exc) from exc
        if config.cert_file:
            try:
                context.load_cert_chain(config.cert_file, config.key_file, password=_no_password)
            except (OSError, ValueError) as exc:
                raise _unusable("cert_file and key_file", exc) from exc
        return context

    def _password(self) -> str:
        try:
            password = Path(self._config.password_file).read_text("utf-8").rstrip("\r\n")
        except (OSError, ValueError) as exc:
            raise _unusable("password_file", exc) from exc
        if not password:
            raise Unavailable("stream.password_file is empty", dependency=DEPENDENCY)
        return password


def _no_password() -> str:
    """Keep OpenSSL from asking on the terminal."""
    raise ValueError("the key is encrypted")


def _unusable(key: str, exc: Exception) -> Unavailable:
    why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    if isinstance(exc, UnicodeDecodeError):  # its text would quote the secret
        why = "not UTF-8"
    return Unavailable(f"stream.{key} cannot be used: {why}", dependency=DEPENDENCY)
