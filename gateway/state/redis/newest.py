"""Groups of newest values: many keys written and read in one round trip."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from redis.exceptions import ResponseError

from gateway.state.port import Newest
from gateway.state.redis.link import Away, refusal
from gateway.state.redis.names import Names
from gateway.state.redis.pool import Command, script
from gateway.state.redis.scripts import CHUNK, FORGET, HEADER, PUT_NEWEST
from gateway.state.redis.servers import Servers

_AT_ONCE: Final = 4_000  # values read in one round trip
_ONE: Final = ord("1")

_Found = Iterator[tuple[int, bytes, list[bytes]]]


class NewestValues:
    """``put_newest`` and ``newest`` of ``StateStore``; raise Away."""

    def __init__(self, servers: Servers, names: Names) -> None:
        self._servers = servers
        self._names = names

    async def put(self, group: str, candidates: Sequence[Newest], *, ttl_ms: int) -> list[bool]:
        """Store those that are newer; one round trip (per server of a cluster)."""
        if not candidates:
            return []
        commands: list[Command] = []
        places: list[range | list[int]] = []
        for number, positions in self._divide(candidates):
            index, root = self._names.group(group)[number]
            for at in range(0, len(positions), CHUNK):
                part = positions[at : at + CHUNK]
                commands.append(_put(index, root, [candidates[n] for n in part], ttl_ms))
                places.append(part)
        stored = [False] * len(candidates)
        replies = await self._servers.run(commands)
        for part, reply in zip(places, replies, strict=True):
            if isinstance(reply, ResponseError):
                raise Away(refusal(reply)) from reply
            for n, flag in zip(part, reply, strict=True):
                stored[n] = flag == _ONE
        return stored

    async def all(self, group: str) -> Mapping[str, bytes]:
        """Return every living value, by robot; forget the robots that have none any more."""
        names = self._names.group(group)
        replies = await self._servers.run([Command(i, ("SMEMBERS", i)) for i, _ in names])
        chunks: list[tuple[int, list[bytes]]] = []
        for number, members in enumerate(replies):
            if isinstance(members, ResponseError):
                raise Away(refusal(members)) from members
            chunks += [(number, members[at : at + CHUNK]) for at in range(0, len(members), CHUNK)]
        values: dict[str, bytes] = {}
        missing: list[Command] = []
        turn = max(1, _AT_ONCE // CHUNK)
        for at in range(0, len(chunks), turn):
            missing += await self._read(names, chunks[at : at + turn], values)
        if missing:
            await self._servers.run(missing)
        return values

    async def _read(
        self,
        names: tuple[tuple[bytes, bytes], ...],
        chunks: list[tuple[int, list[bytes]]],
        values: dict[str, bytes],
    ) -> list[Command]:
        """Add the values of ``chunks``; return what removes the members without a value."""
        commands = [
            Command(names[number][0], ("MGET", *[names[number][1] + m for m in members]))
            for number, members in chunks
        ]
        missing: list[Command] = []
        replies = await self._servers.run(commands)
        for (number, members), reply in zip(chunks, replies, strict=True):
            if isinstance(reply, ResponseError):
                raise Away(refusal(reply)) from reply
            gone: list[bytes] = []
            for member, value in zip(members, reply, strict=True):
                if value is None:
                    gone.append(member)
                else:
                    values[member.decode()] = value[HEADER.size :]
            if gone:
                index, root = names[number]
                keys = (index, *[root + member for member in gone])
                missing.append(script(FORGET, keys, gone))
        return missing

    def _divide(self, candidates: Sequence[Newest]) -> Iterator[tuple[int, range | list[int]]]:
        """Yield (bucket, positions of its candidates in their order)."""
        if self._names.buckets == 1:
            yield 0, range(len(candidates))
            return
        buckets: dict[int, list[int]] = {}
        for n, candidate in enumerate(candidates):
            buckets.setdefault(self._names.bucket(candidate.key.encode()), []).append(n)
        yield from buckets.items()


def _put(index: bytes, root: bytes, part: list[Newest], ttl_ms: int) -> Command:
    pack = HEADER.pack
    keys = [root + candidate[0].encode() for candidate in part]
    values = [pack(ts, seq, rts) + value for _, ts, seq, rts, value in part]
    return script(PUT_NEWEST, (index, *keys), (ttl_ms, len(root), *values))
