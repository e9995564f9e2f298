"""From dbt's log to what is known of each node."""
