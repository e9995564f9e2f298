"""`dbt-watch plan`: what a project will run, shown before anything runs."""
