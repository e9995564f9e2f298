"""Two executors side by side, the three ways to ship DAGs, and `airflow kubernetes generate-dag-yaml`."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from deployment import BAKED_IMAGE, DAGS_IN_POD, DBT_NAMESPACE, deployed
from harness import Run

pytestmark = pytest.mark.k8s_executor

HERE = Path(__file__).parent
PRODUCER = "shop.dbt_build"
# Without it the command of Airflow 3.3 fails.
WHEN = ("--logical-date", "2026-01-01T00:00:00+00:00")
HAS_GIT = importlib.util.find_spec("airflow.providers.git") is not None
WAYS = (
    "volume",
    "baked",
    pytest.param("repo", marks=pytest.mark.skipif(not HAS_GIT, reason="needs apache-airflow-providers-git")),
)


def ship(folder, way, project):
    """Put the DAG file and its manifest into a folder."""
    name = f"from_{way}"
    text = (HERE / "ways/from_somewhere.py").read_text()
    (folder / f"{name}.py").write_text(text.replace("from_somewhere", name))
    (folder / "jaffle_shop/target").mkdir(parents=True)
    shutil.copy(project / "target/manifest.json", folder / "jaffle_shop/target")
    return folder


@pytest.fixture(scope="module")
def repository(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")

    def git(*arguments):
        who = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    git("init", "--initial-branch", "main")
    (folder / "dags").mkdir()
    ship(folder / "dags", "repo", project)
    git("add", ".")
    git("commit", "--message", "Add the DAG")
    return folder


@pytest.fixture(scope="module")
def deployment(project, images, new_database, repository, tmp_path_factory):
    """An Airflow with two executors, of which the one beside the scheduler is the default."""
    volume, baked = (ship(tmp_path_factory.mktemp(way), way, project) for way in ("volume", "baked"))

    def bundles(in_volume, in_image):
        local = "airflow.dag_processing.bundles.local.LocalDagBundle"
        found = [
            {"name": "volume", "classpath": local, "kwargs": {"path": in_volume}},
            {"name": "baked", "classpath": local, "kwargs": {"path": in_image}},
        ]
        if HAS_GIT:
            of_repository = {"repo_url": repository.as_uri(), "tracking_ref": "main", "subdir": "dags"}
            git = "airflow.providers.git.bundles.git.GitDagBundle"
            found.append({"name": "repo", "classpath": git, "kwargs": of_repository})
        return found

    with deployed(
        volume,
        new_database("ways"),
        images,
        executor="LocalExecutor,KubernetesExecutor",
        bundles=bundles,
        baked=baked,
        keep_home=bool(os.environ.get("KEEP_AIRFLOW")),
        baked_template="BAKED_TEMPLATE",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def run_of(deployment):
    runs = {}

    def get(way):
        if way not in runs:
            runs[way] = Run.start(deployment.airflow, f"from_{way}").ended()
        return runs[way]

    return get


@pytest.mark.parametrize("way", WAYS)
def test_dags_may_be_shipped_in_three_ways(run_of, deployment, way):
    run = run_of(way)
    assert set(run.states.values()) == {"success"}
    (worker,) = deployment.pods(run)
    assert worker.annotations["task_id"] == PRODUCER
    assert (worker.image == BAKED_IMAGE) is (way == "baked")
    assert len(deployment.pods(run, DBT_NAMESPACE)) == 1
    assert "stg_orders" in run.log(PRODUCER, until="Completed successfully")


def test_what_must_use_a_worker_uses_one_beside_the_scheduler(run_of, deployment):
    run = run_of("volume")
    (worker,) = deployment.pods(run)
    assert run.tasks[PRODUCER].hostname == worker.name
    assert len(run.sensors()) == 2
    assert {item.hostname for item in run.sensors().values()} == {socket.gethostname()}


def test_a_pod_can_be_looked_at_before_it_exists(deployment, run_of, tmp_path):
    run_of("volume")
    command = [sys.executable, "-m", "airflow", "kubernetes", "generate-dag-yaml", "from_volume", *WHEN]
    done = subprocess.run(
        [*command, "--output-path", str(tmp_path)],
        env=deployment.airflow.env,
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = {
        file.name.split("_shop.")[1].split("_20")[0]: file
        for file in (tmp_path / "airflow_yaml_output").iterdir()
    }
    assert files.keys() == {"dbt_build", "raw_orders", "stg_orders"}
    pod = yaml.safe_load(files["dbt_build"].read_text())
    (base,) = pod["spec"]["containers"]
    assert base["name"] == "base"
    assert base["args"][:3] == ["python", "-m", "airflow.sdk.execution_time.execute_workload"]
    assert {mount["mountPath"] for mount in base["volumeMounts"]} >= {DAGS_IN_POD, "/opt/airflow/logs"}
    assert pod["metadata"]["labels"]["kubernetes_executor"] == "True"
