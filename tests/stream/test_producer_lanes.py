"""Which batch is sent next, and as which numbers of which producer."""

import struct

import pytest

from gateway.core.kinds import Kind
from gateway.stream.kafka.lanes import Batch, Lane, Lanes
from gateway.stream.kafka.topics import topics
from gateway.stream.port import Message
from tests.stream.producer_rig import config, message


def lanes(**settings: object) -> Lanes:
    """Return lanes of topics with two partitions, for producer 7."""
    made = Lanes(config("nowhere:1", prefix="p", **settings), site="home", box="box-1")
    made.arrange(dict.fromkeys(topics("p"), 2))
    made.identify(7, 0)
    return made


def numbered(batch: Batch) -> tuple[int, int, int, int]:
    """Return (producer id, epoch, first sequence number, records) as the batch says them."""
    found: tuple[int, int, int, int] = struct.unpack_from(">qhii", batch.wire, 43)
    return found


def only(some: Lanes) -> Lane:
    """Return the one lane with messages."""
    (lane,) = [lane for lane in some.all() if lane.places or lane.waiting]
    return lane


def sent(some: Lanes, messages: list[Message]) -> tuple[Lane, Batch]:
    """Load messages of one robot and mark their first batch as sent."""
    some.load(messages)
    lane = only(some)
    batch = some.first(lane)
    assert batch is not None
    lane.open = batch
    return lane, batch


def test_numbers_go_on_after_what_was_taken() -> None:
    some = lanes()
    lane, batch = sent(some, [message(n) for n in range(5)])
    assert numbered(batch) == (7, 0, 0, 5)
    lane.taken(batch)
    assert some.first(lane) is None
    _, batch = sent(some, [message(5)])
    assert numbered(batch) == (7, 0, 5, 1)


def test_what_nobody_knows_the_fate_of_is_sent_again_as_the_same_batch() -> None:
    some = lanes()
    lane, batch = sent(some, [message(n) for n in range(5)])
    wire = batch.wire
    some.load([message(n) for n in range(8)])
    again = some.first(lane)
    assert again is not None
    assert again.wire == wire
    assert list(again.places) == [0, 1, 2, 3, 4]
    lane.taken(again)
    rest = some.first(lane)
    assert rest is not None
    assert numbered(rest) == (7, 0, 5, 3)
    assert some.again == 0


def test_it_keeps_its_numbers_while_other_robots_send() -> None:
    some = lanes()
    lane, batch = sent(some, [message(0)])
    wire = batch.wire
    some.load([message(1, kind=Kind.STATE)])
    other = only(some)
    assert other is not lane
    some.load([message(0), message(2)])
    again = some.first(lane)
    assert again is not None
    assert again.wire == wire


@pytest.mark.parametrize("later", [[1, 2, 3], [0], [0, 2, 3]])
def test_other_records_instead_raise_the_epoch(later: list[int]) -> None:
    some = lanes()
    sent(some, [message(0), message(1)])
    _, batch = sent(some, [message(n) for n in later])
    assert numbered(batch) == (7, 1, 0, len(later))
    assert some.again == 2


def test_no_epoch_is_left_after_the_last() -> None:
    some = lanes()
    some.identify(7, 2**15 - 1)
    assert some.identified
    some.raise_epoch()
    assert not some.identified


def test_batches_keep_to_their_size_and_every_record_goes_once() -> None:
    some = lanes(batch_bytes="4KiB", compression="none")
    payloads = [b'{"seq":%d,"pad":"%s"}' % (n, b"x" * (n * 37 % 900)) for n in range(100)]
    some.load([message(n, payload=payload) for n, payload in enumerate(payloads)])
    lane = only(some)
    places: list[int] = []
    while (batch := some.first(lane)) is not None:
        assert len(batch.wire) <= 4096
        places += batch.places
        lane.taken(batch)
    assert places == list(range(100))


def test_a_record_over_the_limit_is_refused_and_the_others_go() -> None:
    some = lanes(batch_bytes="4KiB", max_record_bytes="8KiB")
    sizes = [10, 7_000, 9_000, 10, 9_000]
    some.load([message(n, payload=b'{"a":"%s"}' % (b"x" * s)) for n, s in enumerate(sizes)])
    lane = only(some)
    places: list[int] = []
    while (batch := some.first(lane)) is not None:
        places += batch.places
        lane.taken(batch)
    assert places == [0, 1, 3]
    assert [(refusal.place, refusal.code) for refusal in some.refusals] == [
        (2, "TOO_LARGE"),
        (4, "TOO_LARGE"),
    ]
    assert "8192" in some.refusals[0].detail


def test_a_culprit_is_found_by_halves() -> None:
    some = lanes()
    some.load([message(n) for n in range(37)])
    lane = only(some)
    taken: list[int] = []
    while (batch := some.first(lane)) is not None:
        if 23 in batch.places:
            some.split(lane, batch, "INVALID_RECORD", "so it is")
        else:
            taken += batch.places
            lane.taken(batch)
    assert taken == [n for n in range(37) if n != 23]
    assert [tuple(refusal) for refusal in some.refusals] == [(23, "INVALID_RECORD", "so it is")]


def test_a_kind_without_a_topic_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no topic"):
        lanes().load([message(0, kind=Kind.ACK)])


def test_added_partitions_make_a_new_generation_and_epoch() -> None:
    some = lanes()
    sent(some, [message(0)])
    before = some.generation
    some.arrange(dict.fromkeys(topics("p"), 3))
    assert some.generation > before
    _, batch = sent(some, [message(0)])
    assert numbered(batch)[1] >= 1
