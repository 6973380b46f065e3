"""An air reading as ``POST /api/sensor-data`` takes it.

Two steps, because the API tells them apart: what has not the right shape is INVALID, what has it
but cannot be is OUT_OF_RANGE. The ranges are those of gateway.core.payloads.Sensor.
"""

from datetime import tzinfo
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from gateway.core.errors import GatewayError, InvalidInput, Unprocessable
from gateway.core.jsonin import read_json, refused
from gateway.core.payloads import Id, Sensor
from gateway.core.readings import has_metric
from gateway.core.times import MAX_MS, parse_ms

MAX_BATCH: Final = 1_000  # readings

_RANGES: Final = msgspec.json.schema(Sensor)["$defs"]["Sensor"]["properties"]


def _of_sensor(name: str, **more: int) -> Meta:
    """Return what the API's document says of a field: the range that the second step checks."""
    said: dict[str, Any] = _RANGES[name]["anyOf"][0]
    return Meta(extra_json_schema=said | more)


class PostedReading(
    Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    rename={"robot_id": "robotId", "measured_at": "measuredAt"},
):
    """An air reading as it is posted, with at least one metric. null is as good as left out.

    ``measuredAt``: RFC 3339 (without an offset: the site's zone), or Unix milliseconds.
    """

    robot_id: Id
    # Whole numbers are read as floats: to JSON 7 and 7.0 are one number, and some encoders write
    # the second. What is beyond a float's exactness is out of range.
    measured_at: (
        Annotated[float, Meta(extra_json_schema={"minimum": 0, "maximum": MAX_MS, "multipleOf": 1})]
        | Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    )
    seq: Annotated[float, _of_sensor("seq", multipleOf=1)] | None = None
    pm1: Annotated[float, _of_sensor("pm1")] | None = None
    pm25: Annotated[float, _of_sensor("pm25")] | None = None
    pm10: Annotated[float, _of_sensor("pm10")] | None = None
    co2: Annotated[float, _of_sensor("co2")] | None = None
    tvoc: Annotated[float, _of_sensor("tvoc")] | None = None
    temp: Annotated[float, _of_sensor("temp")] | None = None
    rh: Annotated[float, _of_sensor("rh")] | None = None
    pressure: Annotated[float, _of_sensor("pressure")] | None = None
    x: Annotated[float, _of_sensor("x")] | None = None
    y: Annotated[float, _of_sensor("y")] | None = None
    room: Id | None = None


class Rejected(Struct, frozen=True):
    """Why the reading at ``index`` of a batch was not taken."""

    index: int
    code: str
    path: str


_one: Final = msgspec.json.Decoder(PostedReading)
_many: Final = msgspec.json.Decoder(list[msgspec.Raw])
_SENSOR_FIELDS: Final = tuple(name for name in Sensor.__struct_fields__ if name != "ts")


def read_one(data: bytes | msgspec.Raw, zone: tzinfo) -> tuple[str, Sensor]:
    """Return robot and reading; a time without an offset is in ``zone``.

    Raises:
        InvalidInput: the shape is wrong.
        Unprocessable: OUT_OF_RANGE, or NO_METRIC if it says nothing about the air.
    """
    posted = read_json(data, _one)
    values = {name: getattr(posted, name) for name in _SENSOR_FIELDS}
    values["ts"] = _time(posted.measured_at, zone)
    if posted.seq is not None:
        values["seq"] = _whole(posted.seq, "$.seq")
    try:
        reading = msgspec.convert(values, Sensor)
    except msgspec.ValidationError as exc:
        complaint = refused(exc)
        path = getattr(complaint, "path", "$")
        raise Unprocessable(complaint.detail, reason="OUT_OF_RANGE", path=path) from exc
    if not has_metric(reading):
        raise Unprocessable("a reading needs at least one metric", reason="NO_METRIC")
    return posted.robot_id, reading


def read_batch(data: bytes, zone: tzinfo) -> tuple[list[tuple[str, Sensor]], list[Rejected]]:
    """Return the good ones of a bare array in its order, and what is wrong with the others.

    Raises:
        InvalidInput: it is no array.
        Unprocessable: TOO_MANY.
    """
    items = read_json(data, _many)
    if len(items) > MAX_BATCH:
        raise Unprocessable(f"a batch holds at most {MAX_BATCH} readings", reason="TOO_MANY")
    good: list[tuple[str, Sensor]] = []
    bad: list[Rejected] = []
    for index, item in enumerate(items):
        try:
            good.append(read_one(item, zone))
        except (InvalidInput, Unprocessable) as exc:
            bad.append(Rejected(index, _code(exc), exc.path))
    return good, bad


def _code(exc: GatewayError) -> str:
    return exc.reason if isinstance(exc, Unprocessable) else exc.code


def _whole(value: float, path: str) -> int:
    if not value.is_integer():
        raise InvalidInput("Expected a whole number", path=path)
    return int(value)


def _time(value: float | str, zone: tzinfo) -> int:
    if isinstance(value, str):
        try:
            return parse_ms(value, zone)
        except ValueError as exc:
            raise InvalidInput(str(exc), path="$.measuredAt") from exc
    ms = _whole(value, "$.measuredAt")
    if not 0 <= ms <= MAX_MS:
        raise Unprocessable(
            "Unix milliseconds from 1970 to 9999", reason="OUT_OF_RANGE", path="$.measuredAt"
        )
    return ms
