"""`dag.test()`, as a person at a desk runs it: one process, no scheduler, no triggerer."""

import shutil

import pytest

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

STARTS_PER_TASK = 3
# The example; before Airflow 3.3 README's, which on later versions the Airflow of the other tests runs.
EXAMPLE = "jaffle_shop" if STARTS_FROM_TRIGGER else "shop"

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
        image=os.environ["JAFFLE_SHOP_IMAGE"] + "-dag_test",
        namespace=os.environ["JAFFLE_SHOP_NAMESPACE"],
        project_dir="/usr/app/jaffle_shop",
        env_vars={"JAFFLE_SHOP_DB": "/tmp/jaffle_shop.duckdb"},
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


# What finds all of them in one process, whose import of Airflow takes longer than many a run.
ALL = """
from jaffle_shop_dag import jaffle_shop
from retried import retried
from shop import shop
"""


@pytest.fixture(scope="module")
def runs(environment, readme_dag, desk, cluster, tmp_path_factory, pytestconfig):
    """The runs of these DAGs, by their names."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(pytestconfig.rootpath / "examples/jaffle_shop_dag.py", home / "dags")
    readme_dag(home / "dags")
    (home / "dags/retried.py").write_text(RETRIED)
    (home / "dags/all_of_them.py").write_text(ALL)
    dag_ids = ["jaffle_shop"] if cluster is None else [EXAMPLE, "retried"]
    return desk(home, environment).run("all_of_them", *dag_ids)


def starts_in(run):
    """Tell how often a task was started."""
    return run.log.count("[DAG TEST] starting task_id=")


def test_an_example_runs_in_dag_test(runs, cluster):
    # The image of README's is a local one.
    run = runs["jaffle_shop" if cluster is None else EXAMPLE]
    assert run.state == "success"
    assert len(run.states) > 20
    assert set(run.states.values()) == {"success"}
    assert len(run.states) <= starts_in(run) <= STARTS_PER_TASK * len(run.states)


def test_sensors_do_not_spin_while_the_producer_waits_for_its_next_attempt(runs, cluster):
    if cluster is None:
        pytest.skip("needs a database that outlives the pod, which the image cannot bring")
    run = runs["retried"]
    assert run.state == "success", run.states
    assert set(run.states.values()) == {"success"}
    # At first, and after 4, 8, 16 seconds.
    assert starts_in(run) <= 5 * len(run.states)
