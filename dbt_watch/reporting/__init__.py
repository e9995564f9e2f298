"""`dbt-watch report`: what became of one run of dbt, and why, from whatever is left of it."""
