"""History: readings, robots, dead letters. ``port`` promises, ``open`` chooses the backend."""
