"""Reads a manifest.json into a graph of nodes."""
