"""`dag.test()`, as a person at a desk runs it: one process, no scheduler, no triggerer."""

import shutil
import subprocess
import sys

import pytest

from dbt_watch.demo.settings import Login, airflow_environment

SCRIPT = """
import sys
sys.path.insert(0, "dags")
import jaffle_shop_dag
from airflow.sdk import DAG
dag = jaffle_shop_dag.jaffle_shop()
run = dag.test(run_conf={conf!r})
print("RUN", run.state)
for ti in run.get_task_instances():
    print("TASK", ti.task_id, ti.state)
"""


@pytest.fixture(scope="session")
def run_dag_test(environment, tmp_path_factory, pytestconfig):
    """Run the example in an Airflow home of its own, and give its states."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(pytestconfig.rootpath / "examples/jaffle_shop_dag.py", home / "dags")
    env = {
        **airflow_environment(home, home / "dags", 0, Login()),
        **environment,
        "JAFFLE_SHOP_DB": "/tmp/dag_test.duckdb",  # noqa: S108 - in the pod
    }
    migration = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert migration.returncode == 0, migration.stderr[-3000:]

    def run(conf):
        script = SCRIPT.format(conf=conf)
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=env,
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
            cwd=home,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [line.split() for line in done.stdout.splitlines()]
        states = {line[1]: line[2] for line in lines if line[:1] == ["TASK"]}
        (state,) = [line[1] for line in lines if line[:1] == ["RUN"]]
        return state, states

    return run


def test_the_example_runs_in_dag_test(run_dag_test):
    state, states = run_dag_test({})
    assert state == "success"
    assert len(states) > 20
    assert set(states.values()) == {"success"}
