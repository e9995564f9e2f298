"""`dag.test()`, as a person at a desk runs it: one process, no scheduler, no triggerer."""

import shutil

import pytest

STARTS_PER_TASK = 3

# A build whose producer fails once, and waits for its second attempt.
RETRIED = """
import os
from datetime import datetime
from airflow.sdk import dag
from dbt_watch import dbt_k8s_project

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def retried():
    @dbt_k8s_project(
        manifest=os.environ["JAFFLE_SHOP_MANIFEST"],
        image=os.environ["JAFFLE_SHOP_IMAGE"],
        namespace=os.environ["JAFFLE_SHOP_NAMESPACE"],
        project_dir="/usr/app/jaffle_shop",
        env_vars={"JAFFLE_SHOP_DB": "/warehouse/dag_test.duckdb"},
        # Not by a template: on Airflow 3.1, `dag.test()` renders one for the first attempt only.
        cmds=["sh", "-c", 'mkdir /warehouse/tried && export BREAK_MODEL=orders; exec dbt "$@"', "dbt"],
        select="+customers",
        tests="none",
        retries=1,
        retry_delay=20,
    )
    def shop(): ...

    shop()

retried()
"""


@pytest.fixture(scope="module")
def at_desk(environment, readme_dag, desk, tmp_path_factory, pytestconfig):
    """A desk with the examples, and what their tasks read from their environment."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(pytestconfig.rootpath / "examples/jaffle_shop_dag.py", home / "dags")
    readme_dag(home / "dags")
    (home / "dags/retried.py").write_text(RETRIED)
    return desk(home, {**environment, "JAFFLE_SHOP_DB": "/tmp/dag_test.duckdb"})  # noqa: S108 - in the pod


def starts_in(run):
    """Tell how often a task was started."""
    return run.log.count("[DAG TEST] starting task_id=")


@pytest.mark.parametrize(
    ("module", "dag_id"),
    [
        pytest.param("jaffle_shop_dag", "jaffle_shop", id="example", marks=pytest.mark.newest),
        pytest.param("shop", "shop", id="readme"),
    ],
)
def test_the_examples_run_in_dag_test(at_desk, cluster, module, dag_id):
    if cluster is None and module == "shop":
        pytest.skip("the image of README's example is a local one")
    run = at_desk.run(module, dag_id)[dag_id]
    assert run.state == "success"
    assert len(run.states) > 20
    assert set(run.states.values()) == {"success"}
    assert len(run.states) <= starts_in(run) <= STARTS_PER_TASK * len(run.states)


def test_sensors_do_not_spin_while_the_producer_waits_for_its_next_attempt(at_desk, cluster):
    if cluster is None:
        pytest.skip("needs a database that outlives the pod, which the image cannot bring")
    run = at_desk.run("retried", "retried")["retried"]
    assert run.state == "success", run.states
    assert set(run.states.values()) == {"success"}
    # At first, and after 4, 8, 16 seconds.
    assert starts_in(run) <= 5 * len(run.states)
