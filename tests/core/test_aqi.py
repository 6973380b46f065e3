import pytest

from gateway.core.aqi import Aqi, KoreanAir, KoreanGrade, UsAqi, aqi


@pytest.mark.parametrize(
    ("pm25", "value", "category"),
    [
        (0.0, 0, "Good"),
        (9.0, 50, "Good"),
        (9.09, 50, "Good"),  # cut, not rounded
        (9.1, 51, "Moderate"),
        (20.0, 71, "Moderate"),
        (35.4, 100, "Moderate"),
        (35.49, 100, "Moderate"),
        (35.5, 101, "Unhealthy for sensitive groups"),
        (55.4, 150, "Unhealthy for sensitive groups"),
        (55.5, 151, "Unhealthy"),
        (125.4, 200, "Unhealthy"),
        (125.5, 201, "Very unhealthy"),
        (225.4, 300, "Very unhealthy"),
        (225.5, 301, "Hazardous"),
        (325.4, 500, "Hazardous"),
        (1000.0, 500, "Hazardous"),
    ],
)
def test_us_index_of_pm25(pm25: float, value: int, category: str) -> None:
    assert aqi(pm25, None).us == UsAqi(value, category)


@pytest.mark.parametrize(
    ("pm10", "value"),
    [
        (0, 0),
        (54.9, 50),
        (55, 51),
        (154, 100),
        (155, 101),
        (254, 150),
        (255, 151),
        (354, 200),
        (355, 201),
        (424, 300),
        (425, 301),
        (604, 500),
        (1000, 500),
    ],
)
def test_us_index_of_pm10(pm10: float, value: int) -> None:
    us = aqi(None, pm10).us
    assert us is not None
    assert us.value == value


def test_the_worse_pollutant_decides() -> None:
    assert aqi(9.0, 155.0).us == UsAqi(101, "Unhealthy for sensitive groups")
    assert aqi(55.5, 10.0).us == UsAqi(151, "Unhealthy")


@pytest.mark.parametrize(
    ("pm25", "index", "grade"),
    [
        (0, 0, "좋음"),
        (15, 50, "좋음"),
        (15.4, 50, "좋음"),
        (15.5, 51, "보통"),  # rounded, not cut
        (35, 100, "보통"),
        (36, 101, "나쁨"),
        (75, 250, "나쁨"),
        (76, 251, "매우나쁨"),
        (500, 500, "매우나쁨"),
        (1000, 500, "매우나쁨"),
    ],
)
def test_korean_grade_of_pm25(pm25: float, index: int, grade: str) -> None:
    assert aqi(pm25, None).kr == KoreanAir(pm25=KoreanGrade(index, grade))


@pytest.mark.parametrize(
    ("pm10", "index", "grade"),
    [
        (30, 50, "좋음"),
        (31, 51, "보통"),
        (80, 100, "보통"),
        (81, 101, "나쁨"),
        (150, 250, "나쁨"),
        (151, 251, "매우나쁨"),
        (600, 500, "매우나쁨"),
    ],
)
def test_korean_grade_of_pm10(pm10: float, index: int, grade: str) -> None:
    assert aqi(None, pm10).kr == KoreanAir(pm10=KoreanGrade(index, grade))


def test_nothing_measured_has_no_index() -> None:
    assert aqi(None, None) == Aqi(None, KoreanAir())
