import asyncio
import json
from collections.abc import Awaitable

import pytest
from aiohttp import web

from gateway.web.answer import json_answer, large_array, large_object


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


@pytest.mark.parametrize(("chunks", "rows"), [([], []), ([[]], []), ([[1], [], [2, 3]], [1, 2, 3])])
async def test_large_array(chunks: list[list[int]], rows: list[int]) -> None:
    answer = await large_array("rows", chunks, cursor=None, n=2)
    assert _value(answer) == {"rows": rows, "cursor": None, "n": 2}


async def test_large_object() -> None:
    assert _value(await large_object([("a", 1), ('"', [2])])) == {"a": 1, '"': [2]}
    assert _value(await large_object([])) == {}


async def test_others_have_their_turn_between_the_pieces() -> None:
    assert await _turns(large_array("rows", [[n] for n in range(20)])) >= 20
    assert await _turns(large_object([(str(n), n) for n in range(20)])) >= 20
