"""What the producer makes of answers that a real broker gives too rarely to wait for."""

from collections.abc import Callable

import pytest

from gateway.stream.kafka.codes import Code
from gateway.stream.kafka.lanes import Batch, Lane
from gateway.stream.kafka.producer import KafkaProducer
from gateway.stream.kafka.security import Security
from gateway.stream.kafka.session import Outcome
from gateway.stream.kafka.topics import topics
from tests.stream.producer_rig import config, message

MOST_ROUNDS = 500


def deliver(answer: Callable[[Batch], int], count: int = 40) -> tuple[KafkaProducer, list[int]]:
    """Send messages of one robot to a broker with these answers; return what it took, in order."""
    settings = config("nowhere:1", prefix="p")
    producer = KafkaProducer(settings, Security(settings), site="home", box="box-1")
    lanes = producer._lanes
    lanes.arrange(dict.fromkeys(topics("p"), 2))
    lanes.identify(1, 0)
    lanes.load([message(n) for n in range(count)])
    taken: list[int] = []
    lane: Lane = next(lane for lane in lanes.all() if lane.places)
    for _ in range(MOST_ROUNDS):
        batch = lanes.first(lane)
        if batch is None:
            return producer, taken
        lane.open = batch
        code = answer(batch)
        if code in (Code.NONE, Code.DUPLICATE_SEQUENCE_NUMBER):
            taken += batch.places
        producer._settle(lane, batch, Outcome(code, ""))
    raise AssertionError("it goes on for ever")


@pytest.mark.parametrize(
    ("code", "refused_as"),
    [
        (Code.MESSAGE_TOO_LARGE, "TOO_LARGE"),
        (Code.RECORD_LIST_TOO_LARGE, "TOO_LARGE"),
        (Code.INVALID_RECORD, "INVALID_RECORD"),
        (Code.POLICY_VIOLATION, "INVALID_RECORD"),
        (Code.UNSUPPORTED_FOR_MESSAGE_FORMAT, "INVALID_RECORD"),
        (Code.INVALID_TIMESTAMP, "INVALID_RECORD"),
        (Code.CORRUPT_MESSAGE, "CORRUPT"),
    ],
)
def test_one_record_that_is_never_taken_is_found(code: Code, refused_as: str) -> None:
    culprits = {0, 17, 39}
    producer, taken = deliver(lambda batch: code if culprits & set(batch.places) else Code.NONE)
    assert taken == [n for n in range(40) if n not in culprits]
    refused = {refusal.place: refusal.code for refusal in producer._lanes.refusals}
    assert refused == dict.fromkeys(culprits, refused_as)


def test_a_time_is_left_out_before_anything_is_refused() -> None:
    def answer(batch: Batch) -> int:
        return Code.NONE if batch.packed.records.base_ms < 0 else Code.INVALID_TIMESTAMP

    producer, taken = deliver(answer)
    assert taken == list(range(40))
    assert not producer._lanes.refusals
    assert producer.figures()["untimed"] == 40


def test_damage_on_the_way_is_no_reason_to_refuse() -> None:
    answers = iter([Code.CORRUPT_MESSAGE, Code.CORRUPT_MESSAGE])
    producer, taken = deliver(lambda _: next(answers, Code.NONE))
    assert taken == list(range(40))
    assert not producer._lanes.refusals


@pytest.mark.parametrize(
    "code",
    [Code.OUT_OF_ORDER_SEQUENCE_NUMBER, Code.UNKNOWN_PRODUCER_ID, Code.NOT_LEADER_OR_FOLLOWER,
     Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND, Code.TOPIC_AUTHORIZATION_FAILED, 9999],
)  # fmt: skip
def test_an_outage_refuses_nothing(code: int) -> None:
    answers = iter([code] * 5)
    producer, taken = deliver(lambda _: next(answers, Code.DUPLICATE_SEQUENCE_NUMBER))
    assert taken == list(range(40))
    assert not producer._lanes.refusals
