"""Measurements of the gateway beside its peers; ``python -m bench``. See docs/bench.md."""
