"""Which commands pass, and as what."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_watch.exceptions import ArgumentError
from dbt_watch.server import dbt_commands
from dbt_watch.server.dbt_commands import check_command

ROOTS = {"--project-dir": "/projects/shop", "--profiles-dir": "/projects/shop"}


def check(*words):
    return check_command(words, roots=ROOTS, contains=lambda path: not path.startswith(("/", "..")))


def test_options_may_stand_in_front_of_the_sub_command():
    checked = check(
        "--warn-error", "--fail-fast", "build", "--select", "orders+", "tag:nightly", "--threads", "4"
    )
    assert checked.words() == [
        "--warn-error", "--fail-fast", "build", "--select", "orders+", "tag:nightly", "--threads", "4",
    ]  # fmt: skip
    assert checked.name == "build"


def test_a_sub_command_of_two_words_is_one():
    assert check("source", "freshness", "--select", "source:raw").name == "source freshness"
    assert check("docs", "generate").words() == ["docs", "generate"]


def test_what_the_server_sets_itself_is_taken_out():
    checked = check(
        "--log-format", "json", "--log-level=info", "--no-use-colors", "run", "--target", "prod", "--project-dir",
        "/projects/shop", "--debug",
    )  # fmt: skip
    assert (checked.words(), checked.target, checked.log_level) == (["run"], "prod", "info")


@pytest.mark.parametrize(
    "words",
    [
        [], [""], ["biuld"], ["docs"], ["docs", "serve"], ["init", "x"], ["build", "orders"], ["build", "--no-such-thing"],
        ["build", "--select"], ["build", "--select", "--exclude", "x"], ["build", "--"], ["--", "build"],
        ["build", "--threads", "--full-refresh"], ["build", "--full-refresh=1"], ["build", "-sorders"], ["build", "-qx"],
        ["build", "--log-format", "text"], ["--log-level", "none", "build"], ["build", "--quiet"], ["-q", "build"],
        ["build", "--project-dir", "/etc"], ["build", "--profiles-dir", "/var"], ["build", "--log-path", "/projects/shop/l"],
        ["build", "--target-path", "t"], ["--record-timing-info", "f", "build"], ["build", "-r", "f"],
        ["build", "--state", "/etc"], ["build", "--defer-state=../other"], ["build", "--profile", "other"],
        ["source", "freshness", "--output", "/var/x"], ["source", "freshness", "-o", "x"], ["build", "--no-write-json"],
        ["build", "--upload-to-artifacts-ingest-api"], ["build", "--partial-parse-file-path", "x"], ["--version"],
        ["build", "--help"], ["build", "--select", "a\0b"], ["build", "--select", "\ud800"], ["run-operation", "a", "b"],
        ["build", "--log-cache-events"], ["clean", "--no-clean-project-files-only"], ["build"] * 1001,
        ["build", "--vars", "x" * 70_000], ["build", "--sel", "x"],
    ],
)  # fmt: skip
def test_what_is_not_understood_or_not_allowed_is_refused(words):
    with pytest.raises(ArgumentError):
        check(*words)


def test_a_value_that_begins_with_a_hyphen_stays_with_its_option():
    assert check("show", "--limit=-1").words() == ["show", "--limit=-1"]


WORDS = st.one_of(
    st.sampled_from(
        sorted(
            {
                *dbt_commands._COMMON,
                *dbt_commands.SUB_COMMANDS,
                "docs",
                "source",
                "--select=a",
                "x",
                "--vars={}",
            }
        )
    ),
    st.text(max_size=8),
)


@given(st.lists(WORDS, max_size=6))
def test_whatever_passes_sets_none_of_the_places(words):
    try:
        passed = check(*words).words()
    except ArgumentError:
        return
    options = {word.partition("=")[0] for word in passed if word.startswith("-")}
    assert not options & {
        "--project-dir", "--profiles-dir", "--log-path", "--target-path", "--log-format", "--quiet", "-q", "--target", "-t",
    }  # fmt: skip


DUMP = """
import json, click
from dbt.cli.main import cli
from dbt.cli.options import MultiOption
def options(command):
    kinds = {}
    for option in command.params:
        if isinstance(option, click.Option):
            kind = 0 if option.is_flag or option.count else 2 if isinstance(option, MultiOption) else 1
            names = [name for name in [*option.opts, *option.secondary_opts] if not name.startswith("--deprecated-")]
            kinds.update(dict.fromkeys(names, kind))
    return kinds
found = {"": options(cli)}
def walk(group, path):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            walk(command, [*path, name])
        else:
            found[" ".join([*path, name])] = options(command)
walk(cli, [])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_installed_dbt_takes_the_same_options():
    done = subprocess.run(
        [sys.executable, "-c", DUMP], capture_output=True, text=True, check=True, timeout=120
    )
    dbt = json.loads(done.stdout)
    leading = dbt.pop("")
    assert {option: dbt_commands._LEADING.get(option) for option in leading} == leading
    for name in dbt_commands._NEVER:
        del dbt[name]
    assert set(dbt) == set(dbt_commands.SUB_COMMANDS)
    for name, options in dbt.items():
        known = dbt_commands._COMMON | dbt_commands._OWN[name]
        assert {option: known.get(option) for option in options} == options, name
