"""Real servers for the tests: found on this machine, else installed if possible, else skipped.

``need("mosquitto_pub")`` returns the absolute path of a program. With EDGE_REQUIRE_SERVICES=1
what is missing fails the test instead. ``python -m tests.services`` installs what the tests use.
"""

from tests.services.programs import Missing, find, need, provide, unavailable

__all__ = ["Missing", "find", "need", "provide", "unavailable"]
