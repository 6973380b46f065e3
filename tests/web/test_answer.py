import asyncio
import json
from collections.abc import Awaitable

import pytest
from aiohttp import web

from gateway.web.answer import json_answer, large_answer


def _value(answer: web.Response) -> object:
    assert answer.content_type == "application/json"
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


async def _turns(work: Awaitable[object]) -> int:
    """Return how often another task had its turn while ``work`` was under way."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        await asyncio.sleep(0)
        before = turns
        await work
        counting.cancel()
        return turns - before


def test_json() -> None:
    assert _value(json_answer({"a": [1, None, "é"]})) == {"a": [1, None, "é"]}


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"t": [], "a": {}},
        {"t": [1, 2, 3], "a": {"min": [None, 1.5], '"': ["é"]}, "cursor": None},
        {"long": list(range(20_001)), "after": 1},
        {"structures": [{"a": [1]}, {"b": {}}]},
        7,
    ],
)
async def test_a_large_answer_says_the_same(value: object) -> None:
    assert _value(await large_answer(value)) == value


@pytest.mark.parametrize(
    ("chunks", "rows"), [([], []), ([[]], []), ([[], [1], [], [2, 3]], [1, 2, 3])]
)
async def test_an_array_in_chunks(chunks: list[list[int]], rows: list[int]) -> None:
    answer = await large_answer({"rows": iter(chunks), "cursor": None})
    assert _value(answer) == {"rows": rows, "cursor": None}


async def test_others_have_their_turn_between_the_pieces() -> None:
    numbers = [n / 7 for n in range(200_000)]
    assert await _turns(large_answer({"a": numbers, "b": numbers})) >= 2
