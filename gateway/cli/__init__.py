"""The commands of ``edge-gateway``, one module each; ``gateway.__main__`` assembles them."""
