"""What is asked of Airflow's configuration on a worker. The public name for it, `airflow.sdk.configuration`, is of 3.2."""

from __future__ import annotations

from airflow.configuration import conf


def triggerer_capacity() -> int:
    """Return how many triggers a triggerer runs at once, if it has the configuration that this worker has."""
    return int(conf.getint("triggerer", "capacity"))
