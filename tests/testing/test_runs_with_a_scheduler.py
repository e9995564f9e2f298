"""What is asked of an Airflow with a scheduler, and made of its answers; `tests/e2e/test_dag_tests.py` has a real one."""

from types import SimpleNamespace

import pytest

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.airflow.rest import RestError
from dbt_watch.testing.runner import DagRunner

ORDERS = {"unique_id": "model.shop.orders", "status": "success"}


class Client:
    def __init__(self, file):
        self.triggered = []
        self._file = file

    def get(self, path, **params):
        return {
            "dags": [{"dag_id": "other", "fileloc": "/x"}, {"dag_id": "shop", "fileloc": str(self._file)}]
        }

    def trigger_dag(self, dag_id, conf):
        self.triggered.append((dag_id, conf))
        return "run-1"

    def task_instances(self, dag_id, run_id):
        made = [("build.orders", -1, "success", 2), ("load", 0, "failed", 1), ("tests", -1, None, 0)]
        keys = ("task_id", "map_index", "state", "try_number")
        return [SimpleNamespace(**dict(zip(keys, one, strict=True))) for one in made]

    def task_log(self, dag_id, run_id, task_id, attempt, map_index):
        if attempt == 1:
            raise RestError("no such attempt")
        return f"attempt {attempt} of {task_id}"

    def xcom(self, dag_id, run_id, task_id, *, map_index):
        return {
            "build.orders": ORDERS,
            "load": {"unique_id": 7},
            "tests": {"nodes": [{**ORDERS, "unique_id": "t"}]},
        }[task_id]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "shop.py"
    path.touch()
    return path.resolve()


@pytest.fixture
def airflow(file):
    return SimpleNamespace(
        client=Client(file),
        check=lambda: None,
        wait_for_dag=lambda dag_id, timeout: None,
        wait_for_run=lambda dag_id, run_id, timeout: "failed",
    )


@pytest.fixture
def run_dag(file, airflow):
    kube = SimpleNamespace(replace_images=lambda images: None, pods=list)
    return DagRunner(kube, {}, None, lambda: airflow, root=file.parent, dags_folder=file.parent, env={})


def test_the_only_dag_of_a_file_is_run_and_told(run_dag, airflow):
    run = run_dag("shop.py", conf={"full_refresh": True}, scheduler=True)
    assert airflow.client.triggered == [("shop", {"full_refresh": True})]
    assert (run.dag_id, run.state) == ("shop", "failed")
    assert run.states == {"build.orders": "success", "load[0]": "failed", "tests": None}
    assert run["orders"].log == "attempt 2 of build.orders"
    assert run["orders"].result.status == "success"
    assert set(run.nodes) == {"model.shop.orders", "t"}


def test_an_airflow_that_runs_already_takes_no_environment(run_dag):
    with pytest.raises(ArgumentError, match="dbt_watch_env"):
        run_dag("shop.py", env={"A": "b"}, scheduler=True)
    with pytest.raises(ArgumentError, match="a file, absolute or in"):
        run_dag("nothing.py")
