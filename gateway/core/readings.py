"""Rules about air readings that a type cannot say."""

from gateway.core.payloads import Sensor


def has_metric(reading: Sensor) -> bool:
    """Return whether ``reading`` says anything about the air."""
    return not (
        reading.pm25 is None
        and reading.co2 is None
        and reading.temp is None
        and reading.rh is None
        and reading.pm10 is None
        and reading.pm1 is None
        and reading.tvoc is None
        and reading.pressure is None
    )
