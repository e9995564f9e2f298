"""
With a light triggerer runs end as without, and tasks of other packages start in it as before.

The last tests on this Airflow, since they leave it with that triggerer.
"""

import re
from pathlib import Path

import pytest
from harness import Run, dags_in, until

from dbt_watch.airflow.compat import KNOWS_THE_TRIGGERER

pytestmark = pytest.mark.skipif(not KNOWS_THE_TRIGGERER, reason="this Airflow's triggerer is left alone")

HERE = Path(__file__).parent
SWITCH = "AIRFLOW__DBT_WATCH__LIGHT_TRIGGERER"
# What Airflow says of each task that gets its DAG.
WITH_ITS_DAG = re.compile(r"Start from trigger enabled for task (\S+)")


@pytest.fixture(scope="module")
def light(airflow, environment, dags):
    """Return runs of some cases of a light triggerer by their DAG, all begun at once, and what it has logged."""
    log = airflow.component_log("triggerer")
    airflow.env[SWITCH] = "True"
    airflow.stop_component("triggerer")
    logged = log.stat().st_size
    airflow.restart_component("triggerer")
    with dags_in(airflow, HERE / "dags/stock.py", env=environment):
        begun = [
            Run.start(airflow, dag_id) for dag_id in ("jaffle_shop", "broken_for_good", "retried", "stock")
        ]
        runs = {run.dag_id: run.ended() for run in begun}
        yield runs, lambda: log.read_bytes()[logged:].decode(errors="replace")


@pytest.mark.parametrize("dag_id", ["jaffle_shop", "broken_for_good", "retried"])
def test_a_run_ends_as_with_any_triggerer(light, run_of, dag_id):
    run, like = light[0][dag_id], run_of(dag_id)
    assert run.state == like.state
    assert run.states == like.states
    assert sorted(node["unique_id"] for node in run.results()) == sorted(
        node["unique_id"] for node in like.results()
    )
    assert "dbt" in run.log("shop.orders" if dag_id != "jaffle_shop" else "build.orders", until="dbt")


def test_what_is_cleared_is_built_again(light):
    run = light[0]["broken_for_good"]
    again = run.cleared(only_failed=True)
    assert again.state == "failed"
    assert again.states == run.states
    assert {task.try_number for task in again.sensors().values() if task.state == "failed"} == {2}


def test_only_tasks_of_other_packages_get_their_dag(light):
    runs, log = light
    assert runs["stock"].states == {"until": "success"}
    until(lambda: "for task until" in log(), log)
    assert "Sensors of dbt_watch start without their DAG" in log()
    assert set(WITH_ITS_DAG.findall(log())) == {"until"}
