"""Tests of the stream, each backend alone."""
