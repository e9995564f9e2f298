"""The plugin of pytest on a real Airflow: docs/dag-tests.md's first test as it stands, and a run with a scheduler."""

import re
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from harness import RUN_TIMEOUT, dags_in

from dbt_watch.testing import FakeDbt

ROOT = Path(__file__).parents[2]
TEST, _, _, _, CONFTEST, _ = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/dag-tests.md").read_text(), re.DOTALL
)
RETRIED = """
from datetime import datetime
from airflow.sdk import dag
from dbt_watch import dbt_build, dbt_k8s_project

@dag(schedule=None, start_date=datetime(2026, 1, 1), params={"full_refresh": False})
def tested():
    @dbt_k8s_project(
        manifest="MANIFEST",
        image="registry.example/shop-dbt:1.4",
        namespace="tested",
        select="+customers",
        tests="none",
        retries=1,
        retry_delay=0,
    )
    def build():
        return dbt_build(full_refresh="{{ params.full_refresh }}")

    build()

tested()
"""


@pytest.fixture(autouse=True)
def local(pytestconfig):
    if pytestconfig.getoption("--kubeconfig"):
        pytest.skip("its pods are local ones")


# Its retries need what Airflow 3.1 renders for the first attempt only.
@pytest.mark.newest
def test_the_first_test_of_the_page_passes_as_it_stands(pytester, readme_dag, empty_airflow):
    (pytester.path / "dags").mkdir()
    readme_dag(pytester.path / "dags")
    kept = pytester.path / f".pytest_cache/d/dbt_watch-airflow-{version('apache-airflow')}"
    kept.mkdir(parents=True)
    shutil.copy(empty_airflow / "airflow.db", kept)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shop=TEST)
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.fixture(scope="module")
def dbt_watch_dags_folder(airflow):
    return Path(airflow.env["AIRFLOW__CORE__DAGS_FOLDER"]).resolve()


@pytest.fixture(scope="module")
def dbt_watch_airflow(airflow, dbt_watch_kube, project, tmp_path_factory):
    """The Airflow of all end-to-end tests, in which a file says where the pods run."""
    from dbt_watch.testing.runner import connection_to  # noqa: PLC0415 - as the plugin itself does

    file = tmp_path_factory.mktemp("tested") / "tested.py"
    file.write_text(RETRIED.replace("MANIFEST", str(project / "target/manifest.json")))
    with dags_in(airflow, file, env={"AIRFLOW_CONN_KUBERNETES_DEFAULT": connection_to(dbt_watch_kube)}):
        yield airflow


@pytest.mark.newest
def test_a_retry_under_a_scheduler_builds_what_is_left(
    dbt_watch_airflow, dbt_watch_run_dag, dbt_watch_dags_folder, project
):
    dbt = FakeDbt(project / "target/manifest.json").fails("orders", "deadlock detected", times=1)
    file = dbt_watch_dags_folder / "tested.py"
    run = dbt_watch_run_dag(file, dbt=dbt, conf={"full_refresh": True}, scheduler=True, timeout=RUN_TIMEOUT)
    run.assert_success()
    assert [pod.exit_codes["base"] for pod in run.pods] == [1, 0]
    first, second = run.commands
    first.assert_selects("stg_orders", "orders", "customers")
    assert second.nodes == {"orders", "customers"}
    assert first.full_refresh
    assert "deadlock detected" in run.log("dbt_build")
    assert run["orders"].result.attempt == 2
