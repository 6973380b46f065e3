"""The gateway as the devices' MQTT server, versions 3.1.1 and 5."""
