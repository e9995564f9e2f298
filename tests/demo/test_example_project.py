"""The example project, built by the installed dbt."""

import json
import shutil
import subprocess
import sys

import pytest

from dbt_watch.local.demo.environment import PROJECT, examples_directory

GOOD = {"success", "pass", "no-op"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    copy = tmp_path_factory.mktemp("example") / PROJECT
    ignored = shutil.ignore_patterns("target", "logs", "*.duckdb*")
    shutil.copytree(examples_directory() / PROJECT, copy, ignore=ignored)
    return copy


def build(project, **variables):
    arguments = ["--no-use-colors", "build", "--vars", json.dumps(variables)]
    done = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    results = json.loads((project / "target/run_results.json").read_text())["results"]
    return done, {result["unique_id"]: result for result in results}


@pytest.fixture(scope="module")
def first(project):
    return build(project, batch="first")


def test_a_build_is_green_and_warns_of_nothing_deprecated(first):
    done, results = first
    assert done.returncode == 0, done.stdout
    assert {result["status"] for result in results.values()} <= GOOD
    assert "eprecat" not in done.stdout
    kinds = {unique_id.partition(".")[0] for unique_id in results}
    assert {"seed", "model", "snapshot", "test", "unit_test"} <= kinds


def test_a_second_build_over_the_first_is_green_too(project, first):
    done, _ = build(project, batch="second")
    assert done.returncode == 0, done.stdout


def test_the_model_that_is_to_break_fails_in_the_database_and_takes_only_its_children_along(project):
    done, results = build(project, break_model="orders")
    assert done.returncode == 1
    broken = results["model.jaffle_shop.orders"]
    assert broken["status"] == "error"
    assert "Binder Error" in broken["message"]
    others = {key: result["status"] for key, result in results.items() if result is not broken}
    assert others["model.jaffle_shop.customers"] == "skipped"
    assert others["model.jaffle_shop.stg_orders"] == "success"
    assert set(others.values()) <= GOOD | {"skipped"}
