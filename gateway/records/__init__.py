"""History: readings, robots, dead letters. ``port`` is the promise, ``open`` chooses the backend."""
