"""How Airflow lists the package, as it is installed."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from dbt_watch.provider import get_provider_info

# Looks at all that a provider may register; the command line itself hides warnings.
EVERYTHING = """
import sys
from airflow.providers_manager import ProvidersManager
manager = ProvidersManager()
for name in dir(manager):
    if name.startswith("initialize_providers_"):
        getattr(manager, name)()
print("listed", "dbt-watch" in manager.providers)
"""


@pytest.fixture
def in_airflow(tmp_path):
    """Return a function that runs Python with an Airflow home of its own, and says what was written to both streams."""

    def run(*arguments):
        env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        return subprocess.run(
            [sys.executable, *arguments], env=env, capture_output=True, text=True, check=True, timeout=480
        )

    return run


def test_airflow_lists_the_package_as_a_provider(in_airflow):
    airflow = str(Path(sys.executable).with_name("airflow"))
    listed = json.loads(in_airflow(airflow, "providers", "list", "--output", "json").stdout)
    (ours,) = [item for item in listed if item["package_name"] == "dbt-watch"]
    assert ours["version"] == metadata.version("dbt-watch")
    assert ours["description"].startswith("Run a dbt project in one Kubernetes pod")


def test_airflow_finds_nothing_wrong_with_what_it_is_told(in_airflow):
    done = in_airflow("-c", EVERYTHING)
    assert done.stdout.splitlines()[-1] == "listed True"
    assert "[warning" not in done.stdout + done.stderr


def test_airflow_shows_what_the_package_says_of_itself():
    assert get_provider_info()["description"] == metadata.metadata("dbt-watch")["Summary"]
