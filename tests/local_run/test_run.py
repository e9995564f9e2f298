"""`dbt-watch run` as a user runs it: a DAG that was written for a cluster, on this machine; and how it ends after Ctrl-C."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from harness import RUN_TIMEOUT, until

HERE = Path(__file__).parent
IMAGE = "registry.example/shop-dbt:1.4"


class Ended:
    """A run that has succeeded, and was then left running until Ctrl-C."""

    def __init__(self, returncode, out, err, family, left):
        self.returncode, self.progress, self.family, self.left = returncode, err, family, left
        self.told = json.loads(out.splitlines()[-1]) if out else None


@pytest.fixture(scope="module")
def ended(project, tmp_path_factory):
    """Run the DAG with --keep, and interrupt it once Airflow is left to the user."""
    place = tmp_path_factory.mktemp("run")
    temporary, warehouse = place / "tmp", place / "warehouse"
    temporary.mkdir()
    warehouse.mkdir()
    (place / "dags").mkdir()
    dag = place / "dags/shop_dag.py"
    dag.write_text((HERE / "dags/shop_dag.py").read_text())
    (place / "pyproject.toml").write_text(f"""
        [tool.dbt_watch.images]
        "registry.example/tools:2" = ",{sys.prefix}"

        [tool.dbt_watch.secrets.warehouse]
        password = {{ env = "SHOP_PASSWORD" }}
    """)
    command = [
        *(sys.executable, "-m", "dbt_watch.cli", "run", str(dag), "--format", "json", "--keep"),
        *("--image", f"{IMAGE}={project},{sys.prefix}", "--share", f"/data={warehouse}"),
        *("--select", "+customers"),
    ]
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "SHOP_MANIFEST": str(project / "target/manifest.json"),
        "SHOP_PASSWORD": "s3cret",
        "AIRFLOW_VAR_REGION": "eu",
        # None of these may lead this Airflow, or its pods, elsewhere.
        "AIRFLOW_CONN_PRODUCTION": "kubernetes://?in_cluster=True",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW_HOME": str(place / "elsewhere"),
    }
    out, err = place / "out", place / "err"
    with (
        out.open("w") as stdout,
        err.open("w") as stderr,
        subprocess.Popen(
            command, env=environment, stdout=stdout, stderr=stderr, start_new_session=True
        ) as running,
    ):
        family = []
        try:
            until(
                lambda: running.poll() is not None or "Press Ctrl-C to stop it." in err.read_text(),
                err.read_text,
                patience=RUN_TIMEOUT,
            )
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(running.pid).children(recursive=True)
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(240)
    return Ended(running.returncode, out.read_text(), err.read_text(), family, list(temporary.iterdir()))


def test_the_run_succeeds(ended):
    assert ended.told is not None, ended.progress
    assert (ended.returncode, ended.told["run_state"], ended.told["failures"]) == (0, "success", [])
    assert (ended.told["dag_id"], ended.told["pods"]) == ("shop", 2)


def test_nodes_of_the_selection_are_built_and_the_others_skipped(ended):
    states = {row["unique_id"].split(".")[2]: row["task_state"] for row in ended.told["nodes"]}
    assert states["customers"] == states["raw_customers"] == "success"
    assert ended.told["tasks"]["build.daily_revenue"] == "skipped"


def test_a_pod_by_hand_runs_beside_the_project(ended):
    assert {ended.told["tasks"][task_id] for task_id in ("build.dbt_build", "export", "region")} == {
        "success"
    }


def test_it_says_what_it_has_taken_over(ended):
    assert "taken from the environment: AIRFLOW_VAR_REGION\n" in ended.progress
    assert "point to localkube: AIRFLOW_CONN_PRODUCTION\n" in ended.progress
    assert "AIRFLOW_HOME, AIRFLOW__CORE__EXECUTOR" in ended.progress


def test_after_ctrl_c_no_process_and_no_file_is_left(ended):
    assert len(ended.family) >= 4
    # One that was killed needs a moment of its own to be gone.
    until(lambda: not any(map(lives, ended.family)), "a process is left", patience=10)
    assert ended.left == []


def lives(process):
    """Tell whether a process runs; one that only waits for its parent to take notice does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
