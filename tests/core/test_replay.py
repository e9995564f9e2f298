"""`replay` and `dbt-watch replay`."""

import argparse
import json

import pytest
from recorded import HERE, exit_code_of, graph_of

from dbt_watch.core.commands import replay as command
from dbt_watch.core.commands.replay import replay

NAME = "1.12__duckdb__ephemeral_fail_empty_model"
LOG = HERE / f"{NAME}.jsonl"


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_a_path_and_bytes_give_the_same():
    assert replay(LOG) == replay(LOG.read_bytes())


def test_a_log_gives_nodes_and_an_outcome():
    found = replay(LOG, graph=graph_of(NAME), exit_code=exit_code_of(NAME))
    assert found["outcome"] == "failure"
    assert found["nodes"]["model.ex.base"]["status"] == "success"
    assert found["nodes"]["model.ex.on_eph"]["skipped_because"] == ["model.ex.eph_bad"]
    json.dumps(found)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("1.11__duckdb__build_t4_ok_fresh", "success"), ("1.8__duckdb__build_t4_fail_fresh", "failure"), ("1.12__duckdb__sigterm_midrun", "error"),
     ("1.12__duckdb__connection_error", "error"), ("fusion-2.0.0-preview.196__duckdb__build_t4_ok_fresh", "success")],
)  # fmt: skip
def test_without_an_exit_code_the_outcome_is_told_from_the_log(name, outcome):
    assert replay(HERE / f"{name}.jsonl")["outcome"] == outcome


def test_the_table_has_a_line_for_each_node(capsys):
    assert run(LOG, "--exit-code", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["node", "status", "seconds", "rows", "message"]
    assert lines[-1] == "outcome: failure"
    assert any(line.startswith("model.ex.base ") and " success " in line for line in lines)


def test_json_is_one_object(capsys):
    assert (
        run(LOG, "--format", "json", "--run-results", HERE / f"{NAME}.run_results.json", "--exit-code", 1)
        == 0
    )
    assert json.loads(capsys.readouterr().out)["nodes"]["model.ex.comment_only"]["message"].startswith(
        "Runtime Error"
    )


@pytest.mark.parametrize(
    "arguments",
    [["/nowhere/log"], [LOG, "--manifest", "/nowhere/manifest.json"], [LOG, "--run-results", "/nowhere"]],
)
def test_what_cannot_be_read_ends_with_one_line_and_2(arguments, capsys):
    assert run(*arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
