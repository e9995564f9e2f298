"""From a manifest.json to a graph of nodes."""
