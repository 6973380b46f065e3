"""The ``mqtt`` backend: client of a broker, MQTT 5 with 3.1.1 to fall back on."""
