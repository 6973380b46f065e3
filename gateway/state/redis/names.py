"""What the keys and channels in Redis are called. docs/state.md lists them."""

import zlib


class Names:
    """Names under one prefix. With ``buckets`` above 1 a hash tag keeps a bucket on one server."""

    def __init__(self, prefix: str, buckets: int) -> None:
        self._key = f"{prefix}:key:".encode()
        self._channel = f"{prefix}:channel:".encode()
        self._prefix = prefix
        self.buckets = buckets
        self._groups: dict[str, tuple[tuple[bytes, bytes], ...]] = {}

    def key(self, key: str) -> bytes:
        """Return the name of a plain key."""
        return self._key + key.encode()

    def channel(self, channel: str) -> bytes:
        """Return the name of a channel."""
        return self._channel + channel.encode()

    def group(self, group: str) -> tuple[tuple[bytes, bytes], ...]:
        """Return (index, what the keys of its values start with) of every bucket of ``group``."""
        names = self._groups.get(group)
        if names is None:
            tags = (
                [group]
                if self.buckets == 1
                else [f"{{{group}.{number}}}" for number in range(self.buckets)]
            )
            names = tuple(
                (
                    f"{self._prefix}:robots:{tag}".encode(),
                    f"{self._prefix}:newest:{tag}:".encode(),
                )
                for tag in tags
            )
            self._groups[group] = names
        return names

    def bucket(self, member: bytes) -> int:
        """Return the number of the bucket in which ``member`` is."""
        return zlib.crc32(member) % self.buckets if self.buckets > 1 else 0
