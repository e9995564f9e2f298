"""
The dbt that the selections are compared with, and how many were compared.

DBT_WATCH_SELECTION_EXAMPLES: how many selections for each project (and each dbt); without it a small sample, the same each time.
DBT_WATCH_SELECTION_PYTHONS: the interpreters whose dbt is asked, separated like PATH; without it that of the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from selection_project import write_project

from dbt_watch.core.manifest.load import load_manifest

PYTHONS = os.environ.get("DBT_WATCH_SELECTION_PYTHONS", sys.executable).split(os.pathsep)
THOROUGH = "DBT_WATCH_SELECTION_EXAMPLES" in os.environ
SEEDS = (0, 1, 2) if THOROUGH else (0,)
COMPARED: Counter[str] = Counter()


class Dbt:
    """A process with a parsed project, which says what dbt selects."""

    def __init__(self, python: str, directory: Path) -> None:
        oracle = Path(__file__).with_name("selection_oracle.py")
        self._process = subprocess.Popen(
            [python, str(oracle), str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        ready = self._process.stdout.readline()
        assert ready, f"the dbt of {python} could not parse the project; its words are above"
        facts = json.loads(ready)
        self.version = facts["dbt_version"]
        self.graph = load_manifest(facts["manifest"])

    def ask(self, request: dict) -> dict:
        COMPARED[self.version] += 1
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=240)
        self._process.stdout.close()


@pytest.fixture(scope="session", params=[(python, seed) for python in PYTHONS for seed in SEEDS], ids=str)
def dbt(request, tmp_path_factory):
    python, seed = request.param
    directory = tmp_path_factory.mktemp("project")
    write_project(directory, seed)
    dbt = Dbt(python, directory)
    yield dbt
    dbt.close()


def pytest_terminal_summary(terminalreporter):
    for version, count in COMPARED.items():
        terminalreporter.write_line(f"{count} selections compared with dbt {version}")
