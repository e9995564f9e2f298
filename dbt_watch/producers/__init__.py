"""The tasks that run dbt, and what follows its log."""
