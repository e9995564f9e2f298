"""What a container said last is the reason of an end for which dbt has no record."""

import pytest
from recorded import exit_code_of, graph_of, log_of

from dbt_watch.core.log.last_words import LastWords
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.results import NodeInfo

USAGE = """Usage: dbt build [OPTIONS]
Try 'dbt build --help' for help.

Error: Invalid value for '--project-dir': Path '/nowhere' does not exist."""
TRACEBACK = """Traceback (most recent call last):
  File "/usr/bin/dbt", line 3, in <module>
    from dbt.cli.main import cli
ModuleNotFoundError: No module named 'dbt'"""


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("", ""),
        (USAGE, "Error: Invalid value for '--project-dir': Path '/nowhere' does not exist."),
        (TRACEBACK, "ModuleNotFoundError: No module named 'dbt'"),
        ("sh: 1: dbt: not found\n\n", "sh: 1: dbt: not found"),
        ("before\nRuntime Error\n  Could not find\n  it", "Runtime Error Could not find it"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("  all\n  of it", "all of it"),
    ],
)
def test_the_last_line_counts_and_those_that_it_continues(said, text):
    words = LastWords()
    for line in said.split("\n"):
        words.note(line)
    assert words.text() == text


def read(log, exit_code, *, reason=None, nodes=None):
    """Read a log; give what is known of its end, and the message of a node that was not run."""
    stream = LogStream(Ledger(nodes or {"model.shop.a": NodeInfo("a", "model")}))
    stream.feed(log)
    stream.close(exit_code, reason=reason)
    return stream.ledger.run.end, next(iter(stream.ledger.entries.values())).message


def test_what_is_said_last_is_the_reason():
    end, message = read(USAGE.encode(), 2)
    assert end.reason == "Error: Invalid value for '--project-dir': Path '/nowhere' does not exist."
    assert message == f"dbt ended before it got to this node (exit code 2: {end.reason})"


def test_what_kubernetes_says_comes_first():
    end, _ = read(b"Killed\n", 137, reason="OOMKilled")
    assert (end.reason, end.why) == ("OOMKilled: Killed", "exit code 137: OOMKilled: Killed")


def test_of_a_pod_that_went_away_nothing_is_quoted():
    end, _ = read(b"42\n", None, reason="the pod was deleted")
    assert end.reason == "the pod was deleted"


def test_an_error_of_dbt_goes_before_a_text():
    name = "1.12__duckdb__parse_error_yaml"
    end, _ = read(log_of(name) + b"bye\n", exit_code_of(name), nodes=graph_of(name))
    assert "Syntax error" in end.reason
    assert "bye" not in end.reason
    assert "\n" not in end.reason


@pytest.mark.parametrize("name", ["1.12__duckdb__jaffle_fail", "1.11__duckdb__build_t4_ok_fresh"])
def test_after_a_run_that_came_to_its_end_nothing_is_quoted(name):
    end, _ = read(log_of(name) + b"bye\n", exit_code_of(name), nodes=graph_of(name))
    assert not end.reason


def test_a_line_of_which_nothing_can_be_shown_is_no_line():
    words = LastWords()
    words.note("Traceback")
    words.note("\x1b@")
    words.note("\x1b[31m \x1b[0m")
    assert words.text() == "Traceback"
