"""Simulated robots stay between the walls, move like robots, and breathe plausible air."""

import math
from itertools import pairwise, product
from random import Random

import msgspec
import pytest

from gateway.core.payloads import Sensor
from gateway.core.simair import SimAir
from gateway.core.simrobot import SPEED, TURN, SimRobot
from gateway.core.simworld import ROOMS, angle, dock, is_free, room_at, way

DT_S = 0.1


def robot(seed: int = 1, number: int = 0) -> SimRobot:
    return SimRobot(number, Random(seed))


def until(sim: SimRobot, state: str, limit_s: float = 2_000) -> None:
    for _ in range(int(limit_s / DT_S)):
        if sim.state == state:
            return
        sim.step(DT_S)
    pytest.fail(f"never {state}, still {sim.state}")


@pytest.mark.parametrize(("start", "goal"), [*product(ROOMS, ROOMS)])
def test_every_way_is_free_of_walls(start: str, goal: str) -> None:
    rng = Random(start + goal)
    a, b = rng.choice(ROOMS[start].lanes(rng)), rng.choice(ROOMS[goal].lanes(rng))
    corners = [a, *way(a, b)]
    assert corners[-1] == b
    for (x, y), (to_x, to_y) in pairwise(corners):
        for n in range(101):
            assert is_free((x + (to_x - x) * n / 100, y + (to_y - y) * n / 100))


def test_a_way_out_of_the_flat_is_refused() -> None:
    with pytest.raises(ValueError, match="in a room"):
        way((1, 1), (99, 99))


@pytest.mark.parametrize("seed", range(8))
def test_an_hour_between_the_walls_with_smooth_motion(seed: int) -> None:
    sim = robot(seed, number=seed)
    visited, states = set(), set()
    for _ in range(int(3_600 / DT_S)):
        x, y, theta = sim.x, sim.y, sim.theta
        sim.step(DT_S)
        assert is_free((sim.x, sim.y)), (sim.x, sim.y)
        assert math.hypot(sim.x - x, sim.y - y) <= SPEED * DT_S + 1e-9
        assert abs(angle(sim.theta - theta)) <= TURN * DT_S + 1e-9
        assert -math.pi <= sim.theta <= math.pi
        assert 0 <= sim.battery <= 100
        visited.add(sim.room)
        states.add(sim.state)
    assert len(visited) >= 3
    assert {"cleaning", "returning", "docked"} <= states


def test_a_long_step_is_the_same_as_short_ones() -> None:
    one, many = robot(3), robot(3)
    one.step(20.0)
    for _ in range(200):
        many.step(DT_S)
    assert (one.x, one.y) == pytest.approx((many.x, many.y), abs=0.05)


def test_the_same_seed_drives_the_same_way() -> None:
    one, other = robot(5), robot(5)
    assert [one.step(1.0) for _ in range(300)] == [other.step(1.0) for _ in range(300)]
    assert (one.x, one.y, one.battery) == (other.x, other.y, other.battery)


def test_it_goes_home_when_the_battery_is_low_and_charges() -> None:
    sim = robot()
    until(sim, "cleaning")
    sim.battery = 10.0
    codes = [happening.code for happening in sim.step(DT_S)]
    assert codes == ["BATTERY_LOW"]
    assert sim.state == "returning"
    until(sim, "docked")
    assert (sim.x, sim.y) == pytest.approx(dock(0), abs=0.1)
    before = sim.battery
    sim.step(10.0)
    assert sim.battery > before


def test_commands_are_obeyed() -> None:
    sim = robot()
    assert sim.command("start", {}) is None
    sim.step(5.0)
    assert sim.command("pause", {}) is None
    place = (sim.x, sim.y)
    sim.step(30.0)
    assert (sim.state, (sim.x, sim.y)) == ("paused", place)
    assert sim.command("start", {}) is None
    sim.step(5.0)
    assert (sim.x, sim.y) != place
    assert sim.command("goto", {"x": 1.0, "y": 7}) is None
    for _ in range(900):
        sim.step(DT_S)
        if math.hypot(sim.x - 1.0, sim.y - 7.0) < 0.1:
            break
    assert (sim.x, sim.y) == pytest.approx((1.0, 7.0), abs=0.1)
    assert sim.command("set_fan", {"level": 4}) is None
    assert sim.fan == 4
    assert sim.command("clean_rooms", {"rooms": ["bath"]}) is None
    for _ in range(1_200):
        sim.step(DT_S)
        if sim.room == "bath":
            break
    assert sim.room == "bath"
    assert sim.command("stop", {}) is None
    assert sim.state == "idle"
    assert sim.command("dock", {}) is None
    until(sim, "docked")


@pytest.mark.parametrize(
    ("name", "args", "code"),
    [
        ("fly", {}, "UNKNOWN_COMMAND"),
        ("goto", {"x": 99, "y": 99}, "UNREACHABLE"),
        ("goto", {"x": "1"}, "BAD_ARGS"),
        ("set_fan", {"level": 5}, "BAD_ARGS"),
        ("set_fan", {"level": True}, "BAD_ARGS"),
        ("clean_rooms", {"rooms": ["attic"]}, "BAD_ARGS"),
        ("pause", {}, "NOT_DRIVING"),
    ],
)
def test_commands_that_cannot_be_obeyed_say_why(
    name: str, args: dict[str, object], code: str
) -> None:
    sim = robot()
    assert sim.command(name, args) == code
    assert sim.state == "docked"


def test_a_day_of_air_stays_in_the_ranges_of_the_contract() -> None:
    air = SimAir(Random(7))
    peaks = dict.fromkeys(ROOMS, 0.0)
    codes = set()
    for second in range(0, 86_400, 60):
        codes |= {source.code for source in air.advance(second, [("living", 2)])}
        for room in ROOMS:
            reading = msgspec.convert(air.read(room), Sensor)
            assert 10 <= (reading.temp or 0) <= 32
            peaks[room] = max(peaks[room], reading.pm25 or 0)
    assert {"COOKING", "SHOWER", "GUESTS", "WINDOW_OPEN"} <= codes
    assert 40 < peaks["kitchen"] < 500
    assert peaks["living"] < peaks["kitchen"]


def test_a_purifier_cleans_its_room() -> None:
    dirty, cleaned = SimAir(Random(2)), SimAir(Random(2))
    for second in range(0, 3_600, 5):
        dirty.advance(second, [])
        cleaned.advance(second, [("bedroom", 4)])
    assert cleaned.read("bedroom")["pm25"] < 0.7 * dirty.read("bedroom")["pm25"]


def test_rooms_do_not_overlap() -> None:
    for x, y in product(range(5, 1_200, 10), range(5, 850, 10)):
        point = (x / 100, y / 100)
        assert sum(room.holds(point, 1e-6) for room in ROOMS.values()) == 1
        assert room_at(point) is not None
