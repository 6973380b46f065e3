"""The exposition format."""

from gateway.core.prometheus import Family, counter, gauge, render


def test_page() -> None:
    family = Family("edge_messages_total", "Messages.", "counter")
    family.samples.append(({"hop": "mqtt", "kind": 'a"b\\c\nd'}, 2**53 + 0.0))
    page = render([family, gauge("edge_x", "X.", 0.25), counter("edge_y_total", "Y.", 3)])
    assert page == (
        "# HELP edge_messages_total Messages.\n"
        "# TYPE edge_messages_total counter\n"
        'edge_messages_total{hop="mqtt",kind="a\\"b\\\\c\\nd"} 9007199254740992\n'
        "# HELP edge_x X.\n"
        "# TYPE edge_x gauge\n"
        "edge_x 0.25\n"
        "# HELP edge_y_total Y.\n"
        "# TYPE edge_y_total counter\n"
        "edge_y_total 3\n"
    )
