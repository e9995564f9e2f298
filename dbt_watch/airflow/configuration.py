"""
What is asked of Airflow's configuration, on a worker, while a DAG file is parsed, and in `executor`.

The SDK's own, `airflow.sdk.configuration`, is not there in 3.1.
"""

from __future__ import annotations

from airflow.configuration import conf


def triggerer_capacity() -> int:
    """Return how many triggers a triggerer runs at once, if it has the configuration that this worker has."""
    return int(conf.getint("triggerer", "capacity"))


def configured_executors() -> list[str]:
    """Return the paths, or names, of the executors of this deployment, the default one first; not those of single teams."""
    everyones = str(conf.get("core", "executor")).split(";")[0].strip("=")
    return [name.strip().rpartition(":")[2] for name in everyones.split(",")]


def heartbeat_timeout() -> float:
    """Return after how many seconds without a heartbeat a running task is taken for dead."""
    return float(conf.getint("scheduler", "task_instance_heartbeat_timeout"))


def default_deferrable() -> bool:
    """Return whether operators that can wait in a triggerer do so unless they are told otherwise."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


def own_address() -> str:
    """Return the address of this Airflow as people know it; empty where the configuration does not say."""
    return str(conf.get("api", "base_url", fallback="") or "")
