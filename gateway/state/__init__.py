"""What boxes share: the newest values, and keys with expiry. ``port`` is the promise, ``open``
chooses the backend."""
