"""Messages from devices. ``port`` is the promise, ``open`` chooses the backend.

``server`` is the embedded default (the gateway is the devices' MQTT server), ``client`` reads a
real broker.
"""
