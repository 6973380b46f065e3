"""Rates, the pace of a drain, and how long the journal lasts."""

import pytest

from gateway.core.drain import LEAST_STEP, DrainPace, Rate, hours_left, waiting_share

GIB = 2**30
MIB = 2**20


def test_a_rate_is_the_mean_at_first_and_follows_later() -> None:
    rate = Rate(5.0)
    assert rate.per_s == 0.0
    rate.note(1_000, 10.0)
    assert rate.per_s == 0.0
    rate.note(1_250, 10.25)
    assert rate.per_s == pytest.approx(1_000)
    rate.note(1_250, 10.5)
    assert rate.per_s == pytest.approx(500)
    for tick in range(200):
        rate.note(1_250 + 50 * (tick + 1), 10.5 + 0.25 * (tick + 1))
    assert rate.per_s == pytest.approx(200, rel=0.01)


def test_a_clock_that_stands_still_is_no_rate() -> None:
    rate = Rate(5.0)
    rate.note(0, 1.0)
    rate.note(10, 1.0)
    assert rate.per_s == 0.0
    rate.note(10, 2.0)
    assert rate.per_s == pytest.approx(10)


def test_a_total_that_starts_again_is_no_negative_rate() -> None:
    rate = Rate(5.0)
    rate.note(100, 1.0)
    rate.note(0, 2.0)
    assert rate.per_s == 0.0


@pytest.mark.parametrize(
    ("factor", "live", "per_s", "step"),
    [
        pytest.param(5.0, 0, 2_000, 100, id="idle"),
        pytest.param(5.0, 5_000, 25_000, 1_250, id="busy"),
        pytest.param(5.0, 100_000, 500_000, 5_000, id="a step has a bound"),
        pytest.param(1.5, 400, 600, LEAST_STEP, id="a step is worth its request"),
        pytest.param(1000.0, 0, 400_000, 5_000, id="as good as unpaced"),
    ],
)
def test_the_pace_is_a_multiple_of_the_live_rate(
    factor: float, live: float, per_s: float, step: int
) -> None:
    pace = DrainPace(factor)
    pace.begin(live, 0.0)
    assert pace.per_s == pytest.approx(per_s)
    assert pace.step(5_000) == step


def test_the_pace_follows_a_live_rate_that_grows_but_not_one_that_falls() -> None:
    pace = DrainPace(2.0)
    pace.begin(1_000, 0.0)
    pace.live(3_000)
    pace.live(10)
    assert pace.per_s == pytest.approx(6_000)
    pace.begin(10, 1.0)
    assert pace.per_s == pytest.approx(800)


def test_a_step_that_took_long_itself_is_not_followed_by_a_pause_nor_by_a_burst() -> None:
    pace = DrainPace(5.0)
    pace.begin(0, 100.0)  # 2,000/s
    assert pace.pause_s(100, 100.0, 100.01) == pytest.approx(0.04)
    assert pace.pause_s(100, 100.05, 100.20) == 0.0
    assert pace.pause_s(100, 100.20, 100.20) == pytest.approx(0.05)  # nothing was saved up
    assert pace.pause_s(100, 100.21, 100.21) == pytest.approx(0.09)  # came too early


@pytest.mark.parametrize(
    ("first", "end", "position", "share"),
    [
        (0, 100, 25, 0.75),
        (0, 100, 100, 0.0),
        (50, 150, 20, 1.0),  # some of it is gone already
        (50, 150, 50, 1.0),
        (7, 7, 7, 1.0),
        (0, 100, 120, 0.0),
    ],
)
def test_the_share_that_waits(first: int, end: int, position: int, share: float) -> None:
    assert waiting_share(first=first, end=end, position=position) == pytest.approx(share)


@pytest.mark.parametrize(
    ("disk", "waiting", "per_s", "waited_s", "hours"),
    [
        pytest.param(0, 0, 0, 0, 168, id="nothing comes: only age counts"),
        pytest.param(0, 0, 1_000, 0, 168, id="age is over first"),
        pytest.param(0, 0, 1e6, 0, GIB / 1e6 / 3600, id="empty"),
        pytest.param(GIB // 2, GIB // 2, 1e6, 60, GIB / 2 / 1e6 / 3600, id="half, all waits"),
        pytest.param(GIB, 0, 1e6, 0, (GIB - 64 * MIB) / 1e6 / 3600, id="full, nothing waits"),
        pytest.param(GIB, GIB, 1e6, 60, 0, id="full, all waits: it is being lost"),
        pytest.param(GIB, GIB - 64 * MIB, 1e6, 60, 0, id="the rest shares its segment"),
        pytest.param(2 * GIB, 2 * GIB, 1e6, 60, 0, id="over its bounds"),
        pytest.param(1000, 1000, 0.0, 7 * 86_400 - 3_600, 1, id="an hour before it is too old"),
        pytest.param(1000, 1000, 0.0, 8 * 86_400, 0, id="too old"),
    ],
)
def test_hours_until_something_is_lost(
    disk: int, waiting: float, per_s: float, waited_s: float, hours: float
) -> None:
    left = hours_left(
        bytes_on_disk=disk,
        waiting_bytes=waiting,
        bytes_per_s=per_s,
        waited_s=waited_s,
        max_bytes=GIB,
        max_age_s=7 * 86_400,
        segment_bytes=64 * MIB,
    )
    assert left == pytest.approx(hours)
