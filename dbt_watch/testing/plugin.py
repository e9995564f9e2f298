"""
The plugin of pytest: fixtures for a local Kubernetes, a local Airflow and runs of DAGs, each started when a test first asks for it.

pytest loads this module in every session, so it imports nothing but pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dbt_watch.local.airflow.deployment import LocalAirflow
    from dbt_watch.local.localkube import LocalKube
    from dbt_watch.testing.desk import Desk
    from dbt_watch.testing.runner import DagRunner

_FOLDER = "dbt_watch_dags_folder"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the settings with pytest."""
    parser.addini(
        _FOLDER, "dbt_watch: the folder of the DAGs, relative to pytest's root directory", default="dags"
    )


@pytest.fixture(scope="session")
def dbt_watch_dags_folder(pytestconfig: pytest.Config) -> Path:
    """Return the folder of the DAGs; the setting of that name says which it is, or a fixture of yours."""
    return (pytestconfig.rootpath / str(pytestconfig.getini(_FOLDER))).resolve()


@pytest.fixture(scope="session")
def dbt_watch_env() -> Mapping[str, str]:
    """Return environment variables for DAG files and tasks, such as connections; none, unless a fixture of yours has some."""
    return {}


@pytest.fixture(scope="session")
def dbt_watch_images() -> Mapping[str, Any]:
    """Return what stands for the images of pods in all tests, by name; nothing, unless a fixture of yours has some."""
    return {}


@pytest.fixture(scope="session")
def dbt_watch_kube() -> Iterator[LocalKube]:
    """Yield a local Kubernetes, in which every namespace is there."""
    from dbt_watch.local.localkube import LocalKube  # noqa: PLC0415 - few sessions need it

    with LocalKube(namespaces=None) as kube:
        yield kube


@pytest.fixture(scope="session")
def dbt_watch_airflow(
    dbt_watch_kube: LocalKube, dbt_watch_dags_folder: Path, dbt_watch_env: Mapping[str, str]
) -> Iterator[LocalAirflow]:
    """Yield a whole local Airflow, with the folder of the DAGs."""
    from dbt_watch.local.airflow.deployment import LocalAirflow  # noqa: PLC0415 - few sessions need it
    from dbt_watch.testing.runner import connection_to  # noqa: PLC0415

    env = {
        "KUBECONFIG": str(dbt_watch_kube.kubeconfig),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": connection_to(dbt_watch_kube),
        **dbt_watch_env,
    }
    with LocalAirflow(dbt_watch_dags_folder, env=env) as airflow:
        yield airflow


@pytest.fixture(scope="session")
def _dbt_watch_desk(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Return where `dag.test()` runs. pytest's cache, if there is one, keeps the empty database."""
    from importlib.metadata import version  # noqa: PLC0415 - few sessions need it

    from dbt_watch.testing.desk import Desk  # noqa: PLC0415

    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)
    kept = None if cache is None else cache.mkdir(f"dbt_watch-airflow-{version('apache-airflow')}")
    return Desk(tmp_path_factory.mktemp("dbt_watch"), kept)


@pytest.fixture
def dbt_watch_run_dag(
    request: pytest.FixtureRequest,
    dbt_watch_kube: LocalKube,
    dbt_watch_images: Mapping[str, Any],
    dbt_watch_dags_folder: Path,
    dbt_watch_env: Mapping[str, str],
    _dbt_watch_desk: Desk,
) -> DagRunner:
    """Return a function that runs a DAG to its end, and returns what has become of it; see `DagRunner.__call__`."""
    from dbt_watch.testing.runner import DagRunner  # noqa: PLC0415 - few sessions need it

    def airflow() -> LocalAirflow:
        running: LocalAirflow = request.getfixturevalue("dbt_watch_airflow")
        return running

    return DagRunner(
        dbt_watch_kube,
        dbt_watch_images,
        _dbt_watch_desk,
        airflow,
        root=request.config.rootpath,
        dags_folder=dbt_watch_dags_folder,
        env=dbt_watch_env,
    )
