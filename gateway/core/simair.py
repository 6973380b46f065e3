"""The air of the simulated flat: sources, ventilation, exchange through the hall, purifiers.

Units: pm in µg/m³, co2 in ppm, tvoc in ppb, temp in °C, rh in per cent. The numbers are those of an
ordinary home: outdoor PM2.5 12, CO2 430, an air change in about 100 minutes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.core.simworld import HALL, ROOMS

_OUTDOOR: Final = {"pm25": 12.0, "co2": 430.0, "tvoc": 60.0, "temp": 18.0, "rh": 55.0}
_VENTILATION: Final = 1 / 6_000  # share of the air per second
_WINDOW: Final = 1 / 400  # the same with an open window
_EXCHANGE: Final = 1 / 600  # through a door, per second
_PURIFIER: Final = 1 / 900  # share of the particles per second and fan level
_HEATING: Final = (22.0, 1 / 1_200)  # °C, and how fast
_STEP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Source:
    """Something people do: per second it adds ``rates`` to ``room`` for ``lasts_s`` seconds."""

    code: str
    room: str
    lasts_s: tuple[float, float]
    every_s: float
    rates: dict[str, float]
    window: bool = False


SOURCES: Final = (
    Source("COOKING", "kitchen", (120, 420), 900, {"pm25": 0.5, "tvoc": 1.6, "rh": 0.02}),
    Source("SHOWER", "bath", (180, 480), 1_500, {"rh": 0.12, "temp": 0.006}),
    Source("GUESTS", "living", (300, 900), 1_200, {"co2": 1.3, "tvoc": 0.15}),
    Source("MEETING", "study", (600, 1_800), 1_800, {"co2": 0.9}),
    Source("CANDLE", "bedroom", (200, 500), 1_800, {"pm25": 0.15, "tvoc": 0.5}),
    Source("WINDOW_OPEN", "living", (120, 400), 1_400, {}, window=True),
)


class SimAir:
    """The air in every room. Time comes in; nothing here has a clock."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._at_s = 0.0
        self._rooms = {
            name: {
                "pm25": rng.uniform(6, 20),
                "co2": rng.uniform(480, 800),
                "tvoc": rng.uniform(80, 220),
                "temp": rng.uniform(21, 23.5),
                "rh": rng.uniform(38, 52),
            }
            for name in ROOMS
        }
        self._ends: dict[str, float] = {}  # running sources, and when they end

    def advance(self, to_s: float, purifiers: Iterable[tuple[str, int]]) -> list[Source]:
        """Let time pass until ``to_s``; return the sources that began.

        Args:
            to_s: seconds since the start; the past is ignored.
            purifiers: room and fan level of every robot that is there now.
        """
        began: list[Source] = []
        if to_s - self._at_s < _STEP_S:
            return began
        cleaning = dict.fromkeys(ROOMS, 0)
        for room, level in purifiers:
            cleaning[room] = min(cleaning[room] + level, 12)  # large fleets share few rooms
        while to_s - self._at_s >= _STEP_S:
            self._at_s += _STEP_S
            began += self._happen()
            self._mix(cleaning)
        return began

    def read(self, room: str) -> dict[str, float]:
        """Return what a sensor in ``room`` says now, with its noise and resolution."""
        air, rng = self._rooms[room], self._rng
        pm25 = max(0.0, air["pm25"] * rng.gauss(1.0, 0.03))
        return {
            "pm1": round(pm25 * 0.62, 1),
            "pm25": round(pm25, 1),
            "pm10": round(pm25 * 1.35 + rng.uniform(0, 1.5), 1),
            "co2": round(max(400.0, air["co2"] + rng.gauss(0, 4))),
            "tvoc": round(max(0.0, air["tvoc"] + rng.gauss(0, 3))),
            "temp": round(air["temp"] + rng.gauss(0, 0.04), 2),
            "rh": round(min(100.0, max(0.0, air["rh"] + rng.gauss(0, 0.2))), 1),
        }

    def _happen(self) -> list[Source]:
        began = []
        for source in SOURCES:
            running = self._ends.get(source.code, 0.0) > self._at_s
            if not running and self._rng.random() < _STEP_S / source.every_s:
                self._ends[source.code] = self._at_s + self._rng.uniform(*source.lasts_s)
                began.append(source)
        return began

    def _mix(self, cleaning: dict[str, int]) -> None:
        running = [s for s in SOURCES if self._ends.get(s.code, 0.0) > self._at_s]
        hall = self._rooms[HALL.id]
        for name, air in self._rooms.items():
            window = any(source.window and source.room == name for source in running)
            fresh = (_WINDOW if window else _VENTILATION) * _STEP_S
            for metric, outdoor in _OUTDOOR.items():
                air[metric] += (outdoor - air[metric]) * fresh
                if name != HALL.id:
                    flow = (hall[metric] - air[metric]) * _EXCHANGE * _STEP_S
                    air[metric] += flow
                    hall[metric] -= flow / 3  # the hall has a third of the rooms' air to itself
            goal, pace = _HEATING
            air["temp"] += (goal - air["temp"]) * pace * _STEP_S
            air["pm25"] *= (1 - _PURIFIER * _STEP_S) ** cleaning[name]
            for source in running:
                if source.room == name:
                    for metric, rate in source.rates.items():
                        air[metric] += rate * _STEP_S
            air["rh"] = min(air["rh"], 97.0)
