"""A cluster that notes who asks for what, and an Airflow that runs DAGs in one process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from dbt_watch.local.airflow.settings import Login, airflow_environment
from dbt_watch.local.localkube import Image, LocalKube
from dbt_watch.local.localkube.accounts import Access

ROOT = Path(__file__).parents[2]
IMAGE = "jaffle-shop:tests"

# Runs DAGs one after the other, and says what has become of each.
SCRIPT = """
import importlib, sys
sys.path.insert(0, "dags")
dags = importlib.import_module(sys.argv[1]).DAGS
for dag_id in sys.argv[2:]:
    print("BEGIN", dag_id, flush=True)
    run = dags[dag_id].test()
    print("END", dag_id, run.state, flush=True)
    for ti in run.get_task_instances():
        print("TASK", dag_id, ti.task_id, ti.state, flush=True)
"""


@pytest.fixture(scope="session")
def roles():
    """The rules of the Roles of docs/security.md, by their names."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/security.md").read_text(), re.DOTALL)
    documents = [yaml.safe_load(block) for block in blocks]
    found = {document["metadata"]["name"]: document["rules"] for document in documents}
    assert all(document["kind"] == "Role" for document in documents)
    return found


class Recorder:
    """Notes the accesses that were granted, by the tokens of those who asked, and the pods that were made."""

    def __init__(self):
        self.granted = {}
        self.pods = []

    @property
    def middleware(self):
        @web.middleware
        async def note(request, handler):
            access = Access.of(request)
            if access is not None:
                token = request.headers["Authorization"].removeprefix("Bearer ")
                self.granted.setdefault(token, set()).add((access.verb, access.resource))
                if (access.verb, access.resource) == ("create", "pods"):
                    self.pods.append(await request.json())
            return await handler(request)

        return note

    def by(self, kubeconfig):
        token = json.loads(Path(kubeconfig).read_text())["users"][0]["user"]["token"]
        return self.granted.get(token, set())


@pytest.fixture(scope="session")
def recorder():
    return Recorder()


# The path of the database stands in its error.
PROFILE = """
jaffle_shop:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: "/nowhere/%s/warehouse.duckdb"
"""
PROFILES = {
    "profiles": "{{ env_var('DBT_ENV_SECRET_PASSWORD') }}",
    "talkative_profiles": "{{ var('api_token') }}/{{ env_var('API_TOKEN') }}",
}


@pytest.fixture(scope="session")
def kube(project, recorder, tmp_path_factory):
    mounts = {"/usr/app/jaffle_shop": project}
    for name, path in PROFILES.items():
        mounts[f"/usr/app/{name}"] = tmp_path_factory.mktemp(name)
        (mounts[f"/usr/app/{name}"] / "profiles.yml").write_text(PROFILE % path)
    image = Image(venv=sys.prefix, mounts=mounts, workdir="/usr/app/jaffle_shop")
    with LocalKube({IMAGE: image}, namespaces=["dbt"], middlewares=[recorder.middleware]) as kube:
        yield kube


class Outcome:
    """What has become of one DAG: its state, those of its tasks, and all that was printed meanwhile."""

    def __init__(self, dag_id, output):
        lines = [line.split() for line in output.splitlines()]
        self.tasks = {line[2]: line[3] for line in lines if line[:2] == ["TASK", dag_id]}
        (self.state,) = [line[2] for line in lines if line[:2] == ["END", dag_id]]
        self.log = output.split(f"BEGIN {dag_id}\n")[1].split(f"END {dag_id} ")[0]


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory):
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="session")
def run_dags(project, airflow_home):
    """Return a function that runs DAGs of a file with `dag.test()`, each with its own connection, in one process."""
    home = airflow_home
    shutil.copytree(Path(__file__).parent / "dags", home / "dags")
    env = {
        **airflow_environment(home, home / "dags", 0, Login()),
        "JAFFLE_SHOP_MANIFEST": str(project / "target/manifest.json"),
        "JAFFLE_SHOP_IMAGE": IMAGE,
    }

    def python(*arguments, **more):
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**env, **more},
            cwd=home,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    python("-m", "airflow", "db", "migrate")

    def run(file, kubeconfigs, **more):
        connections = {
            f"AIRFLOW_CONN_{dag_id.upper()}": json.dumps(
                {"conn_type": "kubernetes", "extra": {"kube_config_path": str(path)}}
            )
            for dag_id, path in kubeconfigs.items()
        }
        output = python("-c", SCRIPT, file, *kubeconfigs, **connections, **more)
        return {dag_id: Outcome(dag_id, output) for dag_id in kubeconfigs}

    return run
