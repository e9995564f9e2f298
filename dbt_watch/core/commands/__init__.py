"""The commands of `dbt-watch` that need nothing but the core."""
