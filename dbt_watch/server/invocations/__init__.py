"""The invocations that were asked for: their states and where they are kept."""
