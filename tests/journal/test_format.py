"""docs/journal-format.md is enough to read a journal: the reader here shares no code with it."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from gateway.core.kinds import LABEL
from gateway.journal.open import open_journal
from tests.journal.filling import FAST, TINY, drain, entries, put_each, quarantined, segments

DOCUMENT = Path(__file__).parents[2] / "docs" / "journal-format.md"


def crc32c(data: bytes) -> int:
    """Bit by bit, from the definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def foreign_read(folder: Path) -> Iterator[tuple[int, int, str, int, int, bytes]]:
    """Read as the document says, with the code that stands in it."""
    code = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    scope = {"struct": struct, "crc32c": crc32c}
    exec(code[1], scope)
    identity = (folder / "identity").read_bytes()
    assert identity[:8] == b"EDGEJRNL"
    assert struct.unpack("<HHI", identity[8:16]) == (1, 52, 0)
    assert struct.unpack("<I", identity[48:52])[0] == crc32c(identity[:48])
    files = sorted(folder.glob("*.log"))
    bases = [int(path.stem) for path in files] + [2**63]
    for path, following in zip(files, bases[1:], strict=True):
        yield from scope["records"](path, identity[32:40], following)  # type: ignore[operator]


def test_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283


async def test_a_foreign_reader_agrees(tmp_path: Path) -> None:
    async with open_journal(TINY, tmp_path) as journal:
        await put_each(journal, entries(200))
        records, _ = await drain(journal, journal.reader("ours"))
    assert list(foreign_read(tmp_path / "journal")) == [tuple(record) for record in records]
    assert len(records) == 200


async def test_a_foreign_reader_agrees_about_damage(tmp_path: Path) -> None:
    async with open_journal(FAST, tmp_path) as journal:
        await put_each(journal, entries(200))
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    for at in (300, 4000, 4100, 9000, len(data) - 3):
        data[at] ^= 0x10
    path.write_bytes(data)
    foreign = list(foreign_read(tmp_path / "journal"))
    async with open_journal(FAST, tmp_path) as journal:
        records, lost = await drain(journal, journal.reader("ours"))
    assert foreign == [tuple(record) for record in records]
    assert 4 <= 200 - len(records) <= 5
    assert lost == 199 - len(records)  # the last one was a torn tail: its offset is free again
    assert quarantined(tmp_path)


async def test_cursor_file(tmp_path: Path) -> None:
    async with open_journal(FAST, tmp_path) as journal:
        await put_each(journal, entries(9))
        reader = journal.reader("records")
        await drain(journal, reader)
        reader.commit(9)
        epoch = journal.stats().epoch
    text = (tmp_path / "journal" / "cursors" / "records").read_bytes()
    head = f"edge-cursor 1 {epoch} 9".encode()
    assert text == head + b" %08x\n" % crc32c(head)


def test_the_table_of_kinds() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z-]+) \|", DOCUMENT.read_text(encoding="utf-8"), re.M)
    assert {int(number): name for number, name in rows} == LABEL
