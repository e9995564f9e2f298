"""Reads dbt's log: from bytes to the result of each node."""
