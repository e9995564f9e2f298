"""Where a server runs dbt, and is asked over HTTP."""
