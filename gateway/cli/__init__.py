"""The commands of ``edge-gateway``; what is heavy is imported by the command that needs it."""
