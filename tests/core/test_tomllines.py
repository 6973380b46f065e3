"""Keys are found in the line in which they stand, whatever TOML allows around them."""

import tomllib

from gateway.core.tomllines import key_lines

TEXT = """\
# [not.a.table]
top = 1
[http]  # a comment with "quotes" and [brackets
  port = 8080
host = "a # no comment \\" ["
[bus.limits]
clients = [
  1, # ]
  2,
]
long = \"\"\"
[fake]
key = 1\"\"\"
raw = '''
[fake2]''\'''
"quoted key" = {inner = 1, "b" = [1, {c = 2}]}
dotted.deep . 'key' = true
[[route]]
path = "/a"
[[route]]
path = '/b'
[route.extra]
x = 1979-05-27T07:32:00Z
"""


def test_every_key_of_a_tricky_text_is_found_in_its_line() -> None:
    tomllib.loads(TEXT)  # the text is what we say it is
    assert key_lines(TEXT) == {
        ("top",): 2,
        ("http",): 3,
        ("http", "port"): 4,
        ("http", "host"): 5,
        ("bus",): 6,
        ("bus", "limits"): 6,
        ("bus", "limits", "clients"): 7,
        ("bus", "limits", "long"): 11,
        ("bus", "limits", "raw"): 14,
        ("bus", "limits", "quoted key"): 16,
        ("bus", "limits", "dotted"): 17,
        ("bus", "limits", "dotted", "deep"): 17,
        ("bus", "limits", "dotted", "deep", "key"): 17,
        ("route",): 18,
        ("route", 0): 18,
        ("route", 0, "path"): 19,
        ("route", 1): 20,
        ("route", 1, "path"): 21,
        ("route", 1, "extra"): 22,
        ("route", 1, "extra", "x"): 23,
    }


def test_an_empty_text_and_one_without_a_last_newline() -> None:
    assert key_lines("") == {}
    assert key_lines("# only a comment") == {}
    assert key_lines("a = 1\nb = 'x'") == {("a",): 1, ("b",): 2}
