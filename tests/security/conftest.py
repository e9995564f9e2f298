"""A cluster that notes who asks for what, and an Airflow that runs DAGs in one process."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from dbt_watch.local.localkube import Image, LocalKube
from dbt_watch.local.localkube.accounts import Access
from dbt_watch.testing import FakeDbt

ROOT = Path(__file__).parents[2]
IMAGE = "jaffle-shop:tests"
# Where it does not matter what dbt is: this one builds all but one model.
SCRIPTED_IMAGE = "jaffle-shop:scripted"


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def kube(project, warm_dbt, recorder, tmp_path_factory):
    mounts = {**warm_dbt, "/usr/app/jaffle_shop": project}
    for name, path in PROFILES.items():
        mounts[f"/usr/app/{name}"] = tmp_path_factory.mktemp(name)
        (mounts[f"/usr/app/{name}"] / "profiles.yml").write_text(PROFILE % path)
    image = Image(venv=sys.prefix, mounts=mounts, workdir="/usr/app/jaffle_shop")
    scripted = FakeDbt(project / "target/manifest.json").fails("stg_customers").image()
    images = {IMAGE: image, SCRIPTED_IMAGE: scripted}
    with LocalKube(images, namespaces=["dbt"], middlewares=[recorder.middleware]) as kube:
        yield kube


@pytest.fixture(scope="package")
def airflow_home(tmp_path_factory):
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="package")
def run_dags(project, airflow_home, desk):
    """Return a function that runs DAGs of a file, each with its own connection, in one process."""
    shutil.copytree(Path(__file__).parent / "dags", airflow_home / "dags")
    env = {
        "JAFFLE_SHOP_MANIFEST": str(project / "target/manifest.json"),
        "JAFFLE_SHOP_IMAGE": IMAGE,
        "SCRIPTED_IMAGE": SCRIPTED_IMAGE,
    }
    at_desk = desk(airflow_home, env)

    def run(file, kubeconfigs, **more):
        connections = {
            f"AIRFLOW_CONN_{dag_id.upper()}": json.dumps(
                {"conn_type": "kubernetes", "extra": {"kube_config_path": str(path)}}
            )
            for dag_id, path in kubeconfigs.items()
        }
        return at_desk.run(file, *kubeconfigs, **connections, **more)

    return run
