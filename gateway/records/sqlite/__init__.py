"""History in one SQLite file: one thread writes, a few read, nobody waits on the event loop."""
