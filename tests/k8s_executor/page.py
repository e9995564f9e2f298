"""What docs/kubernetes-executor.md and docs/security.md say, as the tests use it."""

import re
from pathlib import Path

import yaml

DOCS = Path(__file__).parents[2] / "docs"


def documents(page):
    """Return the manifests of a page, by their kind and name."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    found = [yaml.safe_load(block) for block in blocks]
    return {(document["kind"], document["metadata"]["name"]): document for document in found}


def roles():
    """Return the rules of all Roles, by the name of the account that has them."""
    own, of_pods = documents("kubernetes-executor.md"), documents("security.md")["Role", "dbt-watch"]
    found = {name: document for (kind, name), document in own.items() if kind == "Role"}
    return {**found, "airflow-worker": of_pods, "airflow-triggerer": of_pods}


def template():
    """Return the template of a worker pod."""
    return documents("kubernetes-executor.md")["Pod", "airflow-worker"]
