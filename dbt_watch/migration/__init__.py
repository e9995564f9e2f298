"""`dbt-watch migrate`: from a DAG file of astronomer-cosmos to one of this library."""
