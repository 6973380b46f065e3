"""The log on disk between the devices and the rest. ``port`` promises, ``open`` opens it."""
