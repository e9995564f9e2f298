"""A run of dbt in Airflow's web interface, as dbt knows it: the back end of the page, behind Airflow's login."""
