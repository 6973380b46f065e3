"""The dsn of PostgreSQL, and what is said of one that cannot be used."""

import re

import pytest

from gateway.config.model import PostgresRecords
from gateway.config.postgresurl import Target, parse, problems


@pytest.mark.parametrize(
    ("dsn", "target"),
    [
        ("postgresql://u@h/d", Target((("h", 5432),), "u", "d", "")),
        ("postgres://u@h:1/d?sslmode=require", Target((("h", 1),), "u", "d", "require")),
        ("postgresql://u@[::1]:6/d", Target((("::1", 6),), "u", "d", "")),
        ("postgresql://u@[::1]/d", Target((("::1", 5432),), "u", "d", "")),
        ("postgresql://u@a:1,b/d", Target((("a", 1), ("b", 5432)), "u", "d", "")),
        ("postgresql://u%40x@h/d%2Fe", Target((("h", 5432),), "u@x", "d/e", "")),
        (
            "postgresql://u@%2Frun%2Fpostgresql/d",
            Target((("/run/postgresql", 5432),), "u", "d", ""),
        ),
    ],
)
def test_parts(dsn: str, target: Target) -> None:
    assert parse(dsn) == target
    assert list(problems(PostgresRecords(dsn=dsn))) == []


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("", "scheme"),
        ("mysql://u@h/d", "scheme"),
        ("host=h dbname=d", "scheme"),
        ("postgresql://h/d", "user is missing"),
        ("postgresql://u@/d", "host is missing"),
        ("postgresql://u@:5432/d", "host is missing"),
        ("postgresql://u@a,/d", "host is missing"),
        ("postgresql://u@h", "database is missing"),
        ("postgresql://u@h/", "database is missing"),
        ("postgresql://u@h/d/e", "database is missing"),
        ("postgresql://u@h:0/d", "port"),
        ("postgresql://u@h:x/d", "port"),
        ("postgresql://u@h:99999/d", "port"),
        ("postgresql://u@[::1/d", "host cannot be read"),
        ("postgresql://u@h/d#x", "#"),
        ("postgresql://u@h/d?sslmode=verify_full", 'did you mean "verify-full"?'),
        ("postgresql://u@h/d?connect_timeout=3", "connect_timeout"),
        ("postgresql://u@h/d?sslrootcert=x", "records.ca_file"),
        ("postgresql://u:hunter2@h/d", "records.password_file"),
        ("postgresql://u:hunter2@x@h/d", "records.password_file"),
        ("postgresql://u@h/d?password=hunter2", "records.password_file"),
    ],
)
def test_what_is_wrong_is_named_and_no_password_shown(dsn: str, said: str) -> None:
    ((key, text),) = problems(PostgresRecords(dsn=dsn))
    assert key == "records.dsn"
    assert said in text
    assert "hunter2" not in text
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(dsn)


def test_a_ca_file_needs_a_mode_that_looks_at_it() -> None:
    def keys(dsn: str) -> list[str]:
        return [key for key, _ in problems(PostgresRecords(dsn=dsn, ca_file="ca.pem"))]

    assert keys("postgresql://u@h/d") == []
    assert keys("postgresql://u@h/d?sslmode=verify-ca") == []
    assert keys("postgresql://u@h/d?sslmode=require") == ["records.ca_file"]
    assert keys("postgresql://u@%2Frun/d") == ["records.ca_file"]
