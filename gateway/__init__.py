"""The edge gateway's engine. ``main`` is the whole program on one screen."""
