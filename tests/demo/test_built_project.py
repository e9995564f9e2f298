"""The example project, built by the installed dbt."""

import json
import shutil

import pytest

from dbt_watch.local.demo.environment import PROJECT, examples_directory

GOOD = {"success", "pass", "no-op"}
# In their order, each over what was built before.
BUILDS = {"first": {"batch": "first"}, "second": {"batch": "second"}, "broken": {"break_model": "orders"}}


@pytest.fixture(scope="module")
def builds(run_dbt, tmp_path_factory):
    """Return the exit code, what was printed and the result of each node, by the build."""
    directory = tmp_path_factory.mktemp("example")
    project = directory / PROJECT
    ignored = shutil.ignore_patterns("target", "logs", "*.duckdb*")
    shutil.copytree(examples_directory() / PROJECT, project, ignore=ignored)
    calls = [
        {
            "arguments": ["--no-use-colors", "build", "--vars", json.dumps(variables)],
            "environment": {"DBT_TARGET_PATH": str(directory / name)},
            "directory": str(project),
            "log": str(directory / f"{name}.log"),
        }
        for name, variables in BUILDS.items()
    ]
    codes = dict(zip(BUILDS, run_dbt(calls), strict=True))
    return {
        name: (code, (directory / f"{name}.log").read_text(), results_in(directory / name))
        for name, code in codes.items()
    }


def results_in(target):
    results = json.loads((target / "run_results.json").read_text())["results"]
    return {result["unique_id"]: result for result in results}


def test_a_build_is_green_and_warns_of_nothing_deprecated(builds):
    code, printed, results = builds["first"]
    assert code == 0, printed
    assert "Completed successfully" in printed
    assert {result["status"] for result in results.values()} <= GOOD
    assert "eprecat" not in printed
    kinds = {unique_id.partition(".")[0] for unique_id in results}
    assert {"seed", "model", "snapshot", "test", "unit_test"} <= kinds


def test_a_second_build_over_the_first_is_green_too(builds):
    code, printed, _ = builds["second"]
    assert code == 0, printed


def test_the_model_that_is_to_break_fails_in_the_database_and_takes_only_its_children_along(builds):
    code, _, results = builds["broken"]
    assert code == 1
    broken = results["model.jaffle_shop.orders"]
    assert broken["status"] == "error"
    assert "Binder Error" in broken["message"]
    others = {key: result["status"] for key, result in results.items() if result is not broken}
    assert others["model.jaffle_shop.customers"] == "skipped"
    assert others["model.jaffle_shop.stg_orders"] == "success"
    assert set(others.values()) <= GOOD | {"skipped"}
