"""What schemathesis cannot know: how texts of the formats that the API's document names look."""

from base64 import urlsafe_b64encode
from datetime import datetime, timedelta, timezone

import schemathesis
from hypothesis import strategies as st

_OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
_INSTANTS = st.datetimes(
    min_value=datetime(1970, 1, 3),  # noqa: DTZ001  the zone follows
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=_OFFSETS,
).map(datetime.isoformat)

_ZONES = st.sampled_from(["UTC", "Asia/Seoul", "America/New_York", "Pacific/Apia", "Asia/Beirut"])

_POSITIONS = st.integers(-1, 2**63 - 1)
_CURSORS = st.tuples(_POSITIONS, _POSITIONS).map(
    lambda at: urlsafe_b64encode(f"{at[0]}.{at[1]}".encode()).decode().rstrip("=")
)

schemathesis.openapi.format("date-time", _INSTANTS)
schemathesis.openapi.format("iana-zone", _ZONES)
schemathesis.openapi.format("page-cursor", _CURSORS)
