"""The tasks that stand for dbt's nodes: an operator, its trigger, and the hub that reads for all of them."""
