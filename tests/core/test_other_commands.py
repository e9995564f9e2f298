"""The command lines of dbt for what is no build."""

import pytest

from dbt_watch.core.other_commands import (
    check_operation,
    check_words,
    pod_environment,
    pod_words,
    server_words,
)
from dbt_watch.core.verbatim import Reference
from dbt_watch.exceptions import ArgumentError

OF_THE_LOG = ["--log-format", "json", "--log-level", "debug", "--log-level-file", "none", "--no-use-colors"]


def test_the_words_follow_the_options_of_the_log_and_the_places_come_last():
    command = {"words": ["docs", "generate", "--select", "orders"], "target": "prod"}
    assert pod_words(command, project_dir="/usr/app", profiles_dir="/etc/dbt") == [
        *OF_THE_LOG, "docs", "generate", "--select", "orders",
        "--project-dir", "/usr/app", "--profiles-dir", "/etc/dbt", "--target", "prod",
    ]  # fmt: skip


def test_arguments_and_variables_stand_in_the_environment_of_a_container_and_not_in_its_command():
    command = {"words": ["run-operation", "grant"], "args": {"role": "é"}, "vars": {"day": "2026-01-01"}}
    words = pod_words(command)
    assert words[-4:] == ["--args", "$(DBT_WATCH_ARGS)", "--vars", "$(DBT_WATCH_VARS)"]
    assert isinstance(words[-3], Reference)
    environment = pod_environment(command)
    assert environment["DBT_WATCH_ARGS"] == '{"role": "é"}'
    assert environment["DBT_WATCH_VARS"] == '{"day": "2026-01-01"}'
    assert environment["DBT_QUIET"] == "false"


def test_a_server_gets_them_as_words_and_no_places():
    command = {
        "words": ["run-operation", "grant"],
        "args": {"role": "reader"},
        "vars": "{a: 1}",
        "target": "prod",
    }
    assert server_words(command)[-8:] == [
        "run-operation", "grant", "--args", '{"role": "reader"}', "--target", "prod", "--vars", "{a: 1}",
    ]  # fmt: skip


def test_a_number_that_a_template_renders_to_is_a_word():
    assert pod_words({"words": ["show", "--limit", 5]})[-1] == "5"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("docs generate", "the words of a dbt command"),
        ([], "the words of a dbt command"),
        (["--select", "x"], "a dbt sub-command as the first word"),
        (["{{ params.command }}"], "a dbt sub-command as the first word"),
        (["build"], "@dbt_k8s_project or @dbt_api_project builds the project"),
        (["docs", "serve"], "never ends"),
        (["init", "shop"], "would be lost with the pod"),
        (["ls", "--quiet"], "words without --quiet: .* must not be changed"),
        (["ls", "-q"], "words without -q"),
        (["ls", "--log-format=text"], "words without --log-format"),
        (["ls", "--help"], "words without --help: with it dbt runs nothing"),
        (["ls", "--project-dir", "x"], "project_dir=... of the project instead"),
        (["ls", "--vars", "{}"], "vars=... instead"),
        (["ls", "-t", "prod"], "target=... instead"),
        (["run-operation", "x", "--args", "{}"], "args=... of run_operation instead"),
        (["ls", None], "a list of text"),
    ],
)
def test_words_that_make_no_sense_are_refused(words, expected):
    with pytest.raises(ArgumentError, match=expected):
        check_words(words)


@pytest.mark.parametrize(
    "words",
    [
        ["docs", "generate"],
        ["clone", "--state", "prod"],
        ["retry"],
        ["source", "freshness", "--select", "source:shop"],
        ["ls", "-s", "+orders", "--exclude", "tag:x"],
        ["ls", "--select", "{{ params.select }}"],
    ],
)
def test_any_other_command_is_taken(words):
    check_words(words)


@pytest.mark.parametrize("macro", ["grant_select", "dbt_utils.log_info", "{{ params.macro }}"])
def test_the_name_of_a_macro_is_taken(macro):
    check_operation(macro, {"role": "{{ params.role }}"})


@pytest.mark.parametrize(
    ("macro", "args", "expected"),
    [
        ("grant select", None, "macro='grant select': expected the name of a macro"),
        ("--help", None, "the name of a macro"),
        (None, None, "the name of a macro"),
        ("grant", ["reader"], "args=.* expected a dict of a macro's arguments"),
        ("grant", {"role": object}, "args=.* expected values that JSON can represent"),
    ],
)
def test_what_is_no_call_of_a_macro_is_refused(macro, args, expected):
    with pytest.raises(ArgumentError, match=expected):
        check_operation(macro, args)
