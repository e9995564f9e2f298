"""What is asked of Airflow's configuration on a worker. The SDK's own, `airflow.sdk.configuration`, is not there in 3.1."""

from __future__ import annotations

from airflow.configuration import conf


def triggerer_capacity() -> int:
    """Return how many triggers a triggerer runs at once, if it has the configuration that this worker has."""
    return int(conf.getint("triggerer", "capacity"))
