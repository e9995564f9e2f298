"""`dbt_build(...)`: what reaches dbt, and what is refused while the DAG is parsed."""

from datetime import datetime

import pytest
from airflow.sdk import task

from dbt_watch import dbt_build
from dbt_watch.core.command import Selection, dbt_arguments, environment
from dbt_watch.exceptions import ArgumentError


def command(**options):
    return " ".join(dbt_arguments(dbt_build(**options).to_dict(), Selection()))


def test_every_option_becomes_dbts_own():
    text = command(
        vars={"day": "x"},
        full_refresh=True,
        target="prod",
        threads=4,
        fail_fast="true",
        empty=True,
        event_time_start="2026-01-01",
        event_time_end=datetime(2026, 1, 2),
        flags=["--warn-error"],
    )
    for part in (
        "--vars $(DBT_WATCH_VARS)", "--full-refresh", "--target prod", "--threads 4", "--fail-fast", "--empty",
        "--event-time-start 2026-01-01", "--event-time-end 2026-01-02T00:00:00", "--warn-error",
    ):  # fmt: skip
        assert part in text


def test_variables_reach_dbt_through_the_environment_of_the_container():
    assert environment(dbt_build(vars={"day": "x"}).to_dict())["DBT_WATCH_VARS"] == '{"day": "x"}'
    assert environment(dbt_build(vars="day: x").to_dict())["DBT_WATCH_VARS"] == "day: x"
    assert "DBT_WATCH_VARS" not in environment(dbt_build(vars="").to_dict())


def test_options_that_render_to_nothing_are_left_out():
    text = command(full_refresh="false", target="", threads="", vars="", event_time_start="", empty="None")
    assert text == command()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"full_refresh": "maybe"}, "full_refresh='maybe': expected a boolean"),
        ({"full_refresh": 3}, "full_refresh=3: expected a boolean"),
        ({"threads": 0}, "threads=0: expected a number of threads, 1 or more"),
        ({"threads": True}, "threads=True: expected a number of threads"),
        ({"vars": [1]}, "vars=[1]: expected a dict"),
        ({"vars": {"a": {1}}}, "vars="),
        ({"target": 7}, "target=7: expected text"),
        ({"flags": "--warn-error"}, "flags='--warn-error': expected a list"),
        ({"flags": [None]}, "flags=[None]: expected a list"),
        (
            {"flags": ["--quiet"]},
            "flags=['--quiet']: expected options without --quiet: the state of each node is read",
        ),
        ({"flags": ["-fq"]}, "flags=['-fq']: expected options without -q: "),
        ({"flags": ["--log-level=error"]}, "expected options without --log-level: "),
        ({"flags": ["--log-format", "text"]}, "expected options without --log-format: "),
        (
            {"flags": ["--exclude", "orders"]},
            "without --exclude: each node that is built has a task; use select=",
        ),
        ({"flags": ["-sorders"]}, "expected options without -s: "),
        (
            {"flags": ["--resource-type", "model"]},
            "without --resource-type: each node that is built has a task; use",
        ),
        ({"flags": ["--version"]}, "expected options without --version: with it dbt builds nothing"),
        ({"select": 7}, "select=7: expected a selection in dbt's syntax"),
        ({"exclude": [None]}, "exclude=[None]: expected a selection in dbt's syntax"),
        ({"event_time_start": 2026}, "event_time_start=2026: expected text"),
    ],
)
def test_a_value_that_is_known_already_is_checked_while_the_dag_is_parsed(options, words):
    with pytest.raises(ArgumentError) as caught:
        dbt_build(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "flags",
    [
        ["--warn-error"],
        ["-x"],
        ["-tquick"],
        ["--profile", "quiet"],
        ["--log-path", "logs"],
        ["--debug"],
        ["--no-print"],
    ],
)
def test_options_that_change_neither_the_log_nor_what_is_built_reach_dbt(flags):
    assert command(flags=flags).endswith(f"{' '.join(flags)} --indirect-selection eager")


def test_an_option_that_is_known_only_when_it_runs_is_refused_then():
    build = dbt_build(flags=["{{ params.flag }}"])
    with pytest.raises(ArgumentError, match="expected options without --quiet"):
        dbt_arguments({**build.to_dict(), "flags": ["--quiet"]}, Selection())


def test_the_log_of_dbt_is_what_is_read_whatever_the_environment_says():
    variables = environment({})
    assert {name: variables[name] for name in ("DBT_QUIET", "DBT_ENGINE_QUIET")} == {
        "DBT_QUIET": "false",
        "DBT_ENGINE_QUIET": "false",
    }
    assert command().startswith(
        "--log-format json --log-level debug --log-level-file none --no-use-colors build"
    )


def test_tests_are_selected_as_the_tasks_are_made_whatever_the_environment_says():
    assert command().endswith("--indirect-selection eager")
    assert dbt_arguments({}, Selection(indirect_selection="empty"))[-1] == "empty"


def test_templates_and_references_wait_for_the_run(dag, decorate):
    @task
    def numbers(): ...

    @decorate(group_id="build")
    def build(value):
        return dbt_build(
            threads="{{ params.threads }}", vars={"a": [value]}, full_refresh=value, flags=["{{ ds }}"]
        )

    build(numbers())
    assert "numbers" in dag.task_dict["build.dbt_build"].upstream_task_ids
