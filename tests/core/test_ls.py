"""`dbt-watch ls` prints what is selected, and says in one line what it does not understand."""

from __future__ import annotations

import argparse
import json

import pytest
from manifest_builder import generic_test, manifest, resource

from dbt_watch.core.commands import ls


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("DBT_WATCH_CACHE_DIR", "")
    path = tmp_path / "manifest.json"
    content = manifest(
        resource("model.shop.b", "model.shop.a"),
        resource("model.shop.a", "source.shop.web.clicks"),
        resource("source.shop.web.clicks", source_name="web"),
        generic_test("test.shop.not_null.x", "model.shop.a"),
    )
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    ls.add_arguments(parser)
    return ls.run(parser.parse_args(arguments))


def test_ids_are_printed_in_order_one_a_line(path, capsys):
    assert run("--manifest", path) == 0
    assert capsys.readouterr().out.split("\n") == [
        "model.shop.a",
        "model.shop.b",
        "source.shop.web.clicks",
        "test.shop.not_null.x",
        "",
    ]


def test_json_is_one_list(path, capsys):
    assert (
        run(
            "--manifest",
            path,
            "--select",
            "+b",
            "--exclude-resource-type",
            "test",
            "source",
            "--output",
            "json",
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out) == ["model.shop.a", "model.shop.b"]


def test_options_may_be_given_several_times(path, capsys):
    assert run("--manifest", path, "--select", "a", "--select", "b", "--resource-type", "model") == 0
    assert capsys.readouterr().out.split() == ["model.shop.a", "model.shop.b"]


def test_nothing_selected_is_an_empty_answer(path, capsys):
    assert run("--manifest", path, "--select", "nothing") == 0
    assert capsys.readouterr().out == ""


def test_each_criterion_that_matches_nothing_is_a_warning_on_stderr_as_with_dbt(path, capsys):
    arguments = ["--select", "a", "tag:nightly,b", "--exclude", "webb+", "source:wep", "--output", "json"]
    assert run("--manifest", path, *arguments) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == ["model.shop.a", "test.shop.not_null.x"]
    assert output.err.splitlines() == [
        "dbt-watch ls: --select: The selection criterion 'tag:nightly,b' does not match any enabled nodes",
        "dbt-watch ls: --exclude: The selection criterion 'webb+' does not match any enabled nodes",
        "dbt-watch ls: --exclude: The selection criterion 'source:wep' does not match any enabled nodes; did you mean source:web, source:web.clicks?",
    ]


def test_what_is_not_asked_for_by_name_is_no_warning(path, capsys):
    assert run("--manifest", path, "--resource-type", "seed") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["--select", "tagg:x"], "dbt-watch ls: --select='tagg'"),
        (["--resource-type", "modle"], "dbt-watch ls: --resource-type='modle'"),
        (["--indirect-selection", "brave"], "dbt-watch ls: --indirect-selection='brave'"),
        (["--manifest", "no/such.json"], "dbt-watch ls: --manifest='no/such.json'"),
    ],
)
def test_an_error_is_one_line_on_stderr_with_the_option_that_is_wrong(path, capsys, arguments, start):
    assert run("--manifest", path, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(start)
    assert output.err.count("\n") == 1
