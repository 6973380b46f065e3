"""The ``kafka`` backend: records to topics, and every box's records back from them."""
