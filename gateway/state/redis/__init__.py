"""The shared state in Redis: the only package that knows redis-py."""
