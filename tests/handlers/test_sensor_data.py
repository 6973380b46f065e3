from typing import Any

import pytest

from tests.handlers.history_rig import NOW, Client, StoreIntake, get, post


def body(**more: Any) -> dict[str, Any]:
    return {"robotId": "r1", "measuredAt": NOW - 1_000, "pm25": 12.5, **more}


async def test_a_posted_reading_is_in_every_answer(client: Client) -> None:
    whole = body(
        seq=7,
        pm1=1,
        pm10=20.5,
        co2=420,
        tvoc=5,
        temp=-3.5,
        rh=40,
        pressure=1013,
        x=-1,
        y=2,
        room="a",
    )
    assert await post(client, "/api/sensor-data/", whole) == {"accepted": 1, "rejected": []}
    expected = whole | {"measuredAt": "2024-11-22T23:59:59.000Z", "ts": NOW - 1_000, "rts": NOW}
    raw = await get(client, "/api/sensor-data/r1?bucket=raw")
    assert raw == {"rows": [expected], "cursor": None}
    one = await get(client, "/api/sensor-data/r1/latest")
    assert one == expected | {
        "ageS": 1.0,
        "aqi": {
            "us": {"value": 57, "category": "Moderate", "estimate": True},
            "kr": {
                "pm25": {"index": 43, "grade": "좋음"},
                "pm10": {"index": 35, "grade": "좋음"},
            },
        },
    }
    assert await get(client, "/api/sensor-data/latest") == {"items": [one], "cursor": None}
    assert await get(client, "/api/sensor-data/stats/") == {
        "items": [
            {
                "robotId": "r1",
                "readings": 1,
                "first": "2024-11-22T23:59:59.000Z",
                "last": "2024-11-22T23:59:59.000Z",
            }
        ],
        "cursor": None,
    }


async def test_seven_and_seven_point_zero_are_one_number(client: Client) -> None:
    posted = b'{"robotId":"r1","measuredAt":%d.0,"seq":7.0,"pm25":1}' % NOW
    await post(client, "/api/sensor-data", posted)
    found = await get(client, "/api/sensor-data/r1/latest")
    assert (found["ts"], found["seq"]) == (NOW, 7)


async def test_what_was_not_measured_is_left_out(client: Client) -> None:
    await post(client, "/api/sensor-data", {"robotId": "r1", "measuredAt": NOW, "temp": 20})
    latest = await get(client, "/api/sensor-data/r1/latest")
    assert latest == {
        "robotId": "r1",
        "measuredAt": "2024-11-23T00:00:00.000Z",
        "ts": NOW,
        "rts": NOW,
        "seq": None,
        "temp": 20.0,
        "ageS": 0.0,
        "aqi": {"us": None, "kr": {}},
    }


@pytest.mark.parametrize(
    ("measured", "ts"),
    [
        (NOW, NOW),
        ("2024-11-23T00:00:00Z", NOW),
        ("2024-11-23T09:00:00+09:00", NOW),
        ("2024-11-23T09:00:00", NOW),  # the site's zone
        ("2024-11-23T09:00:00.25", NOW + 250),
        ("1999-12-31T23:59:59Z", 946_684_799_000),  # old is kept as it is
        (0, 0),
    ],
)
async def test_the_time_of_a_reading(client: Client, measured: int | str, ts: int) -> None:
    await post(client, "/api/sensor-data", body(measuredAt=measured))
    assert (await get(client, "/api/sensor-data/r1/latest"))["ts"] == ts


BAD = [
    (b"{", 400, "INVALID", "$"),
    (b"", 400, "INVALID", "$"),
    (b"\xff", 400, "INVALID", "$"),
    (b'{"robotId":"r1","measuredAt":0,"pm25":NaN}', 400, "INVALID", "$"),
    (b'{"robotId":"r1","measuredAt":0,"pm25":1e999}', 422, "OUT_OF_RANGE", "$.pm25"),
    ([], 400, "INVALID", "$"),
    ("x", 400, "INVALID", "$"),
    ({"measuredAt": NOW, "pm25": 1}, 400, "INVALID", "$.robotId"),
    ({"robotId": "r1", "pm25": 1}, 400, "INVALID", "$.measuredAt"),
    (body(robotId="a b"), 400, "INVALID", "$.robotId"),
    (body(robotId=5), 400, "INVALID", "$.robotId"),
    (body(room="x" * 65), 400, "INVALID", "$.room"),
    (body(foo=1), 400, "INVALID", "$.foo"),
    (body(pm25="12"), 400, "INVALID", "$.pm25"),
    (body(pm25=True), 400, "INVALID", "$.pm25"),
    (body(seq=1.5), 400, "INVALID", "$.seq"),
    (body(measuredAt="yesterday"), 400, "INVALID", "$.measuredAt"),
    (body(measuredAt=1.5), 400, "INVALID", "$.measuredAt"),
    (body(seq=1.5), 400, "INVALID", "$.seq"),
    (body(seq=2**53), 422, "OUT_OF_RANGE", "$.seq"),
    (body(measuredAt=-1), 422, "OUT_OF_RANGE", "$.measuredAt"),
    (body(measuredAt=2**80), 422, "OUT_OF_RANGE", "$.measuredAt"),
    (body(seq=-1), 422, "OUT_OF_RANGE", "$.seq"),
    (body(seq=2**53), 422, "OUT_OF_RANGE", "$.seq"),
    (body(pm25=1000.1), 422, "OUT_OF_RANGE", "$.pm25"),
    (body(co2=249), 422, "OUT_OF_RANGE", "$.co2"),
    (body(temp=-41), 422, "OUT_OF_RANGE", "$.temp"),
    (body(x=1e9), 422, "OUT_OF_RANGE", "$.x"),
    (body(pm25=None), 422, "NO_METRIC", "$"),
]


@pytest.mark.parametrize(("sent", "status", "code", "path"), BAD)
async def test_a_bad_reading_names_what_is_wrong(
    client: Client, intake: StoreIntake, sent: Any, status: int, code: str, path: str
) -> None:
    answer = await post(client, "/api/sensor-data", sent, status)
    assert (answer["code"], answer["path"]) == (code, path)
    assert intake.calls == []


@pytest.mark.parametrize(
    ("sent", "code", "path"),
    [(sent, code, path) for sent, _, code, path in BAD if not isinstance(sent, bytes)],
)
async def test_a_bad_reading_in_a_batch_does_not_hold_up_the_good(
    client: Client, intake: StoreIntake, sent: Any, code: str, path: str
) -> None:
    answer = await post(client, "/api/sensor-data/batch", [body(seq=1), sent, body(seq=2)])
    assert answer == {"accepted": 2, "rejected": [{"index": 1, "code": code, "path": path}]}
    assert intake.calls == [2]


async def test_the_size_of_a_batch(client: Client, intake: StoreIntake) -> None:
    assert await post(client, "/api/sensor-data/batch", []) == {"accepted": 0, "rejected": []}
    many = [body(seq=number) for number in range(1_000)]
    assert (await post(client, "/api/sensor-data/batch/", many))["accepted"] == 1_000
    answer = await post(client, "/api/sensor-data/batch", [*many, body()], 422)
    assert answer["code"] == "TOO_MANY"
    assert (await post(client, "/api/sensor-data/batch", body(), 400))["code"] == "INVALID"
    assert intake.calls == [1_000]


async def test_a_duplicate_counts_as_accepted_and_changes_nothing(client: Client) -> None:
    for value in (1.0, 2.0):
        sent = [body(seq=3, pm25=value), body(robotId="r2", pm25=value)]
        assert (await post(client, "/api/sensor-data/batch", sent))["accepted"] == 2
    for robot in ("r1", "r2"):
        page = await get(client, f"/api/sensor-data/{robot}?bucket=raw")
        assert [row["pm25"] for row in page["rows"]] == [1.0]


async def test_when_the_journal_is_down_the_sender_is_told_to_come_back(
    client: Client, intake: StoreIntake
) -> None:
    intake.down = True
    answer = await post(client, "/api/sensor-data", body(), 503)
    assert (answer["code"], answer["dependency"]) == ("UNAVAILABLE", "journal")
