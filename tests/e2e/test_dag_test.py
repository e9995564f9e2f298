"""`dag.test()`, as a person at a desk runs it: one process, no scheduler, no triggerer."""

import shutil
import subprocess
import sys

import pytest

from dbt_watch.local.airflow.settings import Login, airflow_environment

SCRIPT = """
import sys
sys.path.insert(0, "dags")
import {module}
run = {module}.{function}().test()
print("RUN", run.state)
for ti in run.get_task_instances():
    print("TASK", ti.task_id, ti.state)
"""
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
        retry_delay=40,
    )
    def shop(): ...

    shop()

retried()
"""


@pytest.fixture(scope="module")
def home(environment, readme_dag, tmp_path_factory, pytestconfig):
    """An Airflow home with a database and the examples, and what their tasks read from their environment."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(pytestconfig.rootpath / "examples/jaffle_shop_dag.py", home / "dags")
    readme_dag(home / "dags")
    (home / "dags/retried.py").write_text(RETRIED)
    env = {
        **airflow_environment(home, home / "dags", 0, Login()),
        **environment,
        "JAFFLE_SHOP_DB": "/tmp/dag_test.duckdb",  # noqa: S108 - in the pod
    }
    python(home, env, "-m", "airflow", "db", "migrate")
    return home, env


def python(home, env, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def run_of(home, module, function):
    """Run a DAG in `dag.test()`; give its state, those of its tasks, and how often a task was started."""
    done = python(*home, "-c", SCRIPT.format(module=module, function=function))
    lines = [line.split() for line in done.stdout.splitlines()]
    states = {line[1]: line[2] for line in lines if line[:1] == ["TASK"]}
    (state,) = [line[1] for line in lines if line[:1] == ["RUN"]]
    return state, states, (done.stdout + done.stderr).count("[DAG TEST] starting task_id=")


@pytest.mark.parametrize(
    ("module", "function"), [("jaffle_shop_dag", "jaffle_shop"), ("shop", "shop")], ids=["example", "readme"]
)
def test_the_examples_run_in_dag_test(home, cluster, module, function):
    if cluster is None and module == "shop":
        pytest.skip("the image of README's example is a local one")
    state, states, starts = run_of(home, module, function)
    assert state == "success"
    assert len(states) > 20
    assert set(states.values()) == {"success"}
    assert len(states) <= starts <= STARTS_PER_TASK * len(states)


def test_sensors_do_not_spin_while_the_producer_waits_for_its_next_attempt(home, cluster):
    if cluster is None:
        pytest.skip("needs a database that outlives the pod, which the image cannot bring")
    state, states, starts = run_of(home, "retried", "retried")
    assert state == "success", states
    assert set(states.values()) == {"success"}
    # At first, and after 4, 8, 16, 32 seconds.
    assert starts <= 6 * len(states)
