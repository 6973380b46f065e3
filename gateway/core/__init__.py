"""Rules and wire formats. Pure functions and values: no I/O, no tasks, no clock of its own.

Sans-I/O libraries (msgspec, the CRC) are allowed here; asyncio, sockets, files and logging are not.
"""
