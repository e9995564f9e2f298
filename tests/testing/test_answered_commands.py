"""The commands of a dbt that follows a script which run no nodes, and what the task of such a command makes of them."""

import json
from pathlib import Path

import pytest
from played import Played
from test_fake_dbt import SHOP, events, written

from dbt_watch.exceptions import ArgumentError, PodLost
from dbt_watch.producers.command_watch import CommandWatch
from dbt_watch.testing import FakeDbt

RECORDED = Path(__file__).parent / "recordings/other_commands.jsonl"
FLAGS = ("--log-format", "json", "--log-level", "debug")
MACROS = {
    f"macro.{package}.{name}": {"name": name, "package_name": package}
    for package, name in (("shop", "grant"), ("dbt_utils", "log_info"))
}


@pytest.fixture
def shop(tmp_path):
    path = written(tmp_path, *SHOP)
    path.write_text(json.dumps({**json.loads(path.read_text()), "macros": MACROS}))
    return FakeDbt(path)


def watched(dbt, *words):
    """Return what the task of a command makes of it."""
    played = Played(dbt, *FLAGS, *words)
    watch = CommandWatch(words, attempt=1, show=lambda line: None)
    watch.take_lines(played.log.encode().split(b"\n"), True)
    watch.end(played.exit_code)
    return watch


def told(dbt, *words):
    result = watched(dbt, *words).result()
    assert result["seconds"] is not None
    return result["status"], result["message"], result["nodes"]


def failure(dbt, *words):
    return str(watched(dbt, *words).failure(PodLost))


def test_what_a_macro_says_is_the_message_of_the_task(shop):
    assert told(shop, "run-operation", "grant") == ("success", None, {})
    dbt = shop.answers("run-operation grant", "to 2 tables", "granted to 3 tables")
    assert told(dbt, "run-operation", "shop.grant")[:2] == ("success", "granted to 3 tables")
    assert told(dbt, "run-operation", "dbt_utils.log_info")[1] is None


def test_a_macro_may_fail_once(shop):
    dbt = shop.answers("run-operation grant", error="no such role", times=1)
    assert failure(dbt, "run-operation", "grant") == (
        "dbt ended with exit code 1: Encountered an error while running operation: no such role"
    )
    assert told(dbt, "run-operation", "grant")[0] == "success"


def test_what_is_said_of_all_macros_does_not_hold_for_one_that_is_named(shop):
    dbt = shop.answers("run-operation", error="no connection").answers("run-operation grant", "granted")
    assert told(dbt, "run-operation", "grant")[1] == "granted"
    assert "no connection" in failure(dbt, "run-operation", "log_info")


def test_a_macro_that_the_project_does_not_have_fails_as_in_dbt(shop):
    found = failure(shop, "run-operation", "grnt")
    assert 'exit code 2: Runtime Error dbt could not find a macro with the name "grnt"' in found


def test_a_command_tells_of_its_macro_and_of_the_arguments(shop):
    Played(shop, *FLAGS, "run-operation", "grant", "--args", '{"role": "reader"}')
    (command,) = shop.commands
    assert (command.name, command.macro, command.args) == ("run-operation", "grant", {"role": "reader"})


def test_docs_are_written_and_said_to_be(shop, tmp_path):
    words = ("docs", "generate", "--select", "orders", "--project-dir", str(tmp_path))
    shop.image(project_dir=str(tmp_path))
    played = Played(shop, *FLAGS, *words, project_dir=str(tmp_path))
    assert played.exit_code == 0
    assert "catalog/v1.json" in (tmp_path / "target/catalog.json").read_text()
    assert f"Catalog written to {tmp_path}/target/catalog.json" in played.log
    assert failure(shop.answers("docs generate", error="no such relation"), "docs", "generate") == (
        "dbt ended with exit code 2: no such relation"
    )


def test_nodes_are_listed_by_dbts_rules(shop):
    lines = [
        json.loads(line)["info"]["msg"]
        for line in Played(
            shop, *FLAGS, "ls", "--select", "+stock", "+figures,resource_type:exposure"
        ).log.splitlines()
        if '"PrintEvent"' in line
    ]
    assert lines == ["exposure:shop.figures", "shop.stock", "source:shop.landed.payments"]
    assert (
        told(shop, "list", "--select", "orders", "--output", "name", "--resource-type", "model")[1]
        == "orders"
    )
    assert "No nodes selected!" in Played(shop, *FLAGS, "ls", "--select", "nobody").log


def test_rows_that_are_scripted_are_shown(shop):
    dbt = shop.answers("show", "| id |", "| 1 |")
    assert told(dbt, "show", "--select", "stock")[1:] == (
        "Previewing node 'stock': | id | | 1 |",
        {"success": 1},
    )
    assert told(dbt, "show", "--inline", "select 1")[1] == "Previewing inline node: | id | | 1 |"


def test_a_model_is_compiled(shop):
    assert told(shop, "compile", "--select", "stock") == (
        "success",
        "Compiled node 'stock' is: select 1",
        {"success": 1},
    )


def test_it_takes_as_long_as_is_scripted(shop):
    assert Played(shop.answers("clone", seconds=2.5), *FLAGS, "clone").slept == 2.5


@pytest.mark.parametrize(
    ("command", "more", "message"),
    [
        ("build", {}, "a command of dbt that runs no nodes"),
        ("doc generate", {}, "a command of dbt that runs no nodes"),
        ("doc", {}, "a command of dbt that runs no nodes"),
        ("", {}, "a command of dbt that runs no nodes"),
        ("docs generate --select orders", {}, "no more than docs generate"),
        ("run-operation grant now", {}, "no more than run-operation"),
        ("run-operation grnt", {}, r"did you mean grant\?"),
        ("docs generate", {"times": 1}, "an `error` beside it"),
    ],
)
def test_what_cannot_be_scripted_is_refused(shop, command, more, message):
    with pytest.raises(ArgumentError, match=message):
        shop.answers(command, **more)


def test_a_recorded_log_answers_nothing_else(tmp_path):
    (tmp_path / "dbt.jsonl").write_text("")
    with pytest.raises(ArgumentError, match="a recorded log is replayed as it is"):
        FakeDbt.recorded(tmp_path / "dbt.jsonl").answers("clone")


def test_the_records_are_those_that_dbt_writes(shop):
    recorded = {}
    for key, fields, code in events(RECORDED.read_text()):
        recorded.setdefault(key[0], set()).add((fields, code))
    logs = [
        Played(shop.answers("show", "1"), *FLAGS, *words).log
        for words in (
            ("run-operation", "nothing"),
            ("docs", "generate"),
            ("ls",),
            ("ls", "--select", "nobody"),
            ("compile", "--select", "stock"),
            ("show", "--select", "stock"),
        )
    ]
    logs.append(Played(shop.answers("run-operation", error="no"), *FLAGS, "run-operation", "grant").log)
    found = [event for log in logs for event in events(log)]
    names = {key[0] for key, _, _ in found}
    assert {
        "PrintEvent",
        "CompiledNode",
        "ShowNode",
        "CatalogWritten",
        "RunningOperationCaughtError",
        "NoNodesSelected",
    } <= names
    for key, fields, code in found:
        if key[0] in recorded:
            assert (fields, code) in recorded[key[0]], key
