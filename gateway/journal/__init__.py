"""The log on disk between the devices and everything else. ``port`` is the promise, ``open`` opens it."""
