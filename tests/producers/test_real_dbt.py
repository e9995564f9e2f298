"""A real dbt, called as in the pod: whatever its environment says, and when its project is not the manifest's."""

import shutil

import pytest
from dbt.cli.main import cli

from dbt_watch.core.command import Selection, dbt_arguments, environment
from dbt_watch.core.flags import check_flags, check_variables
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.drift import Drift
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.outcome import Producer, Verdict, decide
from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import ArgumentError
from dbt_watch.producers.build_watch import BuildWatch

# What dbt reads from the environment and what bears on its log, or on which nodes it builds: each with the value that would do
# the most harm.
HOSTILE = {
    "QUIET": "1",
    "LOG_FORMAT": "text",
    "LOG_LEVEL": "none",
    "LOG_LEVEL_FILE": "debug",
    "LOG_FORMAT_FILE": "json",
    "LOG_PATH": "elsewhere",
    "LOG_CACHE_EVENTS": "1",
    "LOG_FILE_MAX_BYTES": "1",
    "USE_COLORS": "1",
    "USE_COLORS_FILE": "1",
    "PRINTER_WIDTH": "1",
    "DEBUG": "0",
    "PRINT": "0",
    "NO_PRINT": "1",
    "POPULATE_CACHE": "0",
    "CACHE_SELECTED_ONLY": "1",
    "MACRO_DEBUGGING": "1",
    "SHOW_RESOURCE_REPORT": "1",
    "WRITE_JSON": "0",
    "INDIRECT_SELECTION": "empty",
    "WARN_ERROR_OPTIONS": '{"silence": ["NothingToDo", "NoNodesForSelectionCriteria"]}',
    "SEND_ANONYMOUS_USAGE_STATS": "0",
}
REFUSED = ("RESOURCE_TYPES", "EXCLUDE_RESOURCE_TYPES", "RECORDER_MODE")
# Where it runs, against what, how it parses, and what a build does with a node: for the user to set. dbt reports its nodes with
# any of them.
THE_USERS = {
    "ARTIFACT_STATE_PATH", "DEFER", "DEFER_STATE", "DEFER_TO_STATE", "EMPTY", "EVENT_TIME_END", "EVENT_TIME_START",
    "EXPORT_SAVED_QUERIES", "FAIL_FAST", "FAVOR_STATE", "FAVOR_STATE_MODE", "FULL_REFRESH", "INCLUDE_SAVED_QUERY",
    "PARTIAL_PARSE", "PARTIAL_PARSE_FILE_DIFF", "PARTIAL_PARSE_FILE_PATH", "PROFILE", "PROFILES_DIR", "PROJECT_DIR", "SAMPLE",
    "SINGLE_THREADED", "SQLPARSE", "STATE", "STATIC_PARSER", "STORE_FAILURES", "TARGET", "TARGET_PATH", "UPLOAD_TO_ARTIFACTS_INGEST_API",
    "USE_EXPERIMENTAL_PARSER", "USE_FAST_TEST_EDGES", "VERSION_CHECK", "WARN_ERROR",
}  # fmt: skip


def short_name(variable):
    return variable.removeprefix("DBT_").removeprefix("ENGINE_")


def test_each_variable_that_dbt_knows_is_decided_about():
    known = set()
    for command in (cli, cli.commands["build"]):
        for option in command.params:
            names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
            known |= set(map(short_name, names))
    assert known - {*HOSTILE, *REFUSED, *THE_USERS} == set()


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("prefix", ["DBT_", "DBT_ENGINE_"])
def test_what_would_have_dbt_build_other_nodes_is_refused(name, prefix):
    with pytest.raises(ArgumentError, match=f"env_vars=.* expected variables without {prefix}{name}: "):
        check_variables("env_vars", {prefix + name: "x"}, [prefix + name])


def test_each_option_that_would_is_one_of_dbts():
    known = {
        option
        for command in (cli, cli.commands["build"])
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for option in known:
        if any(
            word in option for word in ("log-", "quiet", "select", "exclude", "resource-type", "use-colors")
        ):
            allowed = option in {
                "--log-path", "--log-file-max-bytes", "--log-format-file", "--use-colors-file", "--no-use-colors-file",
                "--cache-selected-only", "--no-cache-selected-only",
            }  # fmt: skip
            if allowed:
                check_flags("flags", [option], [option])
            else:
                with pytest.raises(ArgumentError):
                    check_flags("flags", [option], [option])


@pytest.fixture(scope="module")
def drifted(project, tmp_path_factory):
    """Return the example project as it is in an image that was built from another commit."""
    directory = tmp_path_factory.mktemp("drifted") / "jaffle_shop"
    shutil.copytree(project, directory)
    (directory / "models/marts/daily_revenue.sql").unlink()
    schema = next(path for path in directory.rglob("*.yml") if "daily_revenue" in path.read_text())
    schema.write_text(without_model(schema.read_text(), "daily_revenue"))
    (directory / "models/marts/brand_new.sql").write_text("select 1 as one")
    return directory


def without_model(text, name):
    """Take a model out of a file of properties, and whatever depends on it."""
    import yaml  # noqa: PLC0415

    content = yaml.safe_load(text)
    content["models"] = [model for model in content.get("models", ()) if model["name"] != name]
    content.pop("exposures", None)
    return yaml.safe_dump(content)


@pytest.fixture(scope="module")
def runs(project, drifted, run_dbt, tmp_path_factory):
    """Run dbt once for each case; give the exit code and the log of each."""
    directory = tmp_path_factory.mktemp("runs")
    cases = {
        "undisturbed": (project, {}),
        "drifted": (drifted, {}),
        **{
            name: (project, {f"DBT_{name}": value, f"DBT_ENGINE_{name}": value})
            for name, value in HOSTILE.items()
        },
    }
    arguments = [*dbt_arguments({}, Selection()), "--profiles-dir", "."]
    calls = [
        {
            "arguments": arguments,
            # As in the pod, where what is ours replaces the same of the user.
            "environment": {
                **hostile,
                **environment({}),
                # One for all, each on top of the one before: dbt parses the project anew for another path.
                "JAFFLE_SHOP_DB": str(directory / "shop.duckdb"),
            },
            "directory": str(where),
            "log": str(directory / f"{case}.jsonl"),
        }
        for case, (where, hostile) in cases.items()
    ]
    codes = run_dbt(calls)
    return {
        case: (code, (directory / f"{case}.jsonl").read_bytes())
        for case, code in zip(cases, codes, strict=True)
    }


@pytest.fixture(scope="module")
def nodes(project):
    graph = load_manifest(project / "target/manifest.json")
    return {unique_id: graph.nodes[unique_id] for unique_id in select_nodes(graph)}


def watched(run, nodes, **arguments):
    exit_code, log = run
    warnings = []
    watch = BuildWatch(nodes, attempt=1, show=[].append, warn=warnings.append, **arguments)
    watch.take_lines(log.split(b"\n")[:-1], True)
    watch.end(exit_code)
    results = {result.unique_id: result for result in watch.results}
    return watch.closed, warnings, results


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", HOSTILE)
def test_each_node_is_reported_whatever_the_environment_says_of_the_log(runs, nodes, name):
    closed, warnings, results = watched(runs[name], nodes)
    _, _, undisturbed = watched(runs["undisturbed"], nodes)
    assert closed == Closed(0)
    assert warnings == []
    assert {key: result.status for key, result in results.items()} == {
        key: result.status for key, result in undisturbed.items()
    }
    assert all(result.is_success for result in results.values())


def test_no_more_of_the_log_comes_than_undisturbed(runs):
    lines = {case: log.count(b"\n") for case, (_, log) in runs.items() if case in {*HOSTILE, "undisturbed"}}
    # With these dbt itself says a little more.
    for case in ("SHOW_RESOURCE_REPORT", "MACRO_DEBUGGING", "POPULATE_CACHE"):
        del lines[case]
    assert max(lines.values()) - min(lines.values()) < 100, lines


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("on_drift", "exit_code"), [("warn", 0), ("fail", 1)])
def test_a_project_that_is_not_the_manifests_is_named(runs, nodes, on_drift, exit_code):
    closed, warnings, results = watched(runs["drifted"], nodes, drift=Drift(on_drift=on_drift))
    assert closed.exit_code == exit_code
    (warning,) = warnings
    assert "only in the project that dbt ran: brand_new" in warning
    assert "only in the manifest: daily_revenue, not_null_daily_revenue_day" in warning
    gone = results["model.jaffle_shop.daily_revenue"]
    decision = decide(Producer("success", Closed(0)), [(gone.unique_id, gone)])
    assert decision.verdict is Verdict.SKIP
    assert "does not contain this model" in decision.reason
    assert results["model.jaffle_shop.customers"].is_success
