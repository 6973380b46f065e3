"""The latency generator does not flatter: a freeze, a loss and a conflation all show."""

from bench.open_loop import OpenLoop, Outcome, Plan
from bench.payloads import FIRST_SEQ
from tests.bench.chain import Chain


def drive(chain: Chain, *, rate: float = 200, seconds: float = 1.0, robots: int = 20) -> Outcome:
    plan = Plan(chain.mqtt, chain.http, rate, robots, seconds, warm_s=0.0, settle_s=2.0)
    return OpenLoop(plan).run()


def test_everything_arrives_in_order() -> None:
    with Chain().running() as chain:
        out = drive(chain)
    assert (out.sent, out.delivered, out.conflated, out.missing) == (200, 200, 0, 0)
    assert out.disordered == 0
    assert 0 < out.latency["p50"] <= out.latency["p99"] <= out.latency["max"]


def test_a_freeze_of_one_second_is_in_the_percentiles() -> None:
    """A closed loop would have one slow sample in 600; here every message due meanwhile is late."""
    with Chain().running() as chain:
        chain.freeze(1.0, 1.0)
        out = drive(chain, seconds=3.0)
    assert out.delivered == 600
    assert out.latency["p99"] > 900
    assert out.latency["max"] > out.latency["p99"]
    assert out.lateness["p99"] < 500  # the generator itself kept its timetable meanwhile


def test_a_pose_that_a_newer_one_replaced_is_counted() -> None:
    with Chain(deliver=lambda seq: seq if (seq - FIRST_SEQ) // 20 % 2 else None).running() as chain:
        out = drive(chain)
    assert (out.delivered, out.conflated, out.missing) == (100, 100, 0)


def test_a_robot_whose_newest_pose_never_came_is_missing() -> None:
    newest = FIRST_SEQ + 199
    with Chain(deliver=lambda seq: seq if seq != newest else None).running() as chain:
        out = drive(chain)
    assert (out.delivered, out.conflated, out.missing) == (199, 0, 1)


def test_old_news_after_new_is_disorder() -> None:
    with Chain(deliver=lambda seq: seq ^ 1).running() as chain:  # every pair the wrong way round
        out = drive(chain, robots=1)
    assert out.disordered >= 99  # the very last one may come after the newest, which ends the run
