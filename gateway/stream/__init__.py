"""What leaves the box and comes back. ``port`` is the promise, ``open`` chooses the backend."""
