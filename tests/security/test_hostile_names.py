"""Names that want to do harm: in a shell, a path, a terminal, a pod's arguments, a task id."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dbt_watch.cli import main
from dbt_watch.core.command import Selection, dbt_arguments, environment
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.task_log import MAX_LINE_CHARS, finished_lines, started_line, tell_changes
from dbt_watch.core.manifest.graph import Node
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.outcome import Producer, decide
from dbt_watch.core.results import NodeResult
from dbt_watch.core.resume import selection_of
from dbt_watch.core.verbatim import verbatim
from dbt_watch.exceptions import ManifestError
from dbt_watch.local.localkube.environment import expand
from dbt_watch.rendering.task_ids import MAX_LENGTH, node_task_id, suffixed

LEGAL = re.compile(r"^[\w.-]+$")

NAMES = [
    "it's", 'say "hi"', "two\nlines", "$(rm -rf ~)", "`id`", "$HOME", "$(WAREHOUSE_PASSWORD)", "$$", "a;b", "a|b&c",
    "..", "../../etc/passwd", "/etc/passwd", "~root", "-rf", "--profiles-dir=/tmp", "\x1b[2J\x1b[31mred", "\x1b]0;title\x07",
    "\r\x08\x08over", "nul\x00byte", "\u202egnp.exe", "\u2028line", "zero\u200bwidth", "\u0430dmin", "e\u0301", "\u00e9",
    "{{ var.value.secret }}", "{% raw %}", "<script>alert(1)</script>", "%s %(x)s {0}", "x" * 5_000, "😀" * 1_000, " ", "a,b", "a b", "*",
]  # fmt: skip
names = (
    st.sampled_from(NAMES) | st.text(min_size=1, max_size=60) | st.text("$(){}'\"\n\x1b;.-/ ab", min_size=1)
)


def node(name):
    return Node(unique_id=f"model.shop.{name}", name=name, resource_type="model", package_name="shop")


def result(name, **more):
    unique_id = f"model.shop.{name}"
    return NodeResult(unique_id=unique_id, name=name, resource_type="model", status="error", **more)


def shown_safely(text):
    return all(line.isprintable() for line in text.split("\n"))


@given(st.lists(names, min_size=2, max_size=20, unique=True))
@example(NAMES)
def test_task_ids_are_legal_and_distinct(found):
    ids = [node_task_id(node(name), "shop") for name in found]
    ids += [suffixed(task_id, "test", name) for task_id, name in zip(ids, found, strict=True)]
    assert all(LEGAL.match(task_id) and len(task_id) <= MAX_LENGTH for task_id in ids)
    assert len(set(ids)) == len(ids)
    assert not {"dbt_build", "tests", ".", ".."} & set(ids)


@given(names, names)
def test_every_value_is_one_argument_of_dbt(name, value):
    options = {"vars": {name: value}, "target": name}
    written = dbt_arguments(options, Selection(select=("fqn:a",)), project_dir=name)
    variables = {key: expand(verbatim(text), {}) for key, text in environment(options).items()}
    arguments = [expand(verbatim(argument), variables) for argument in written]
    ours = arguments[arguments.index("build") + 1 :]  # nothing of a user's stands before
    assert ours[:5] == ["--project-dir", name, "--target", name, "--vars"]
    assert json.loads(ours[5]) == {name: value}


@given(st.lists(names), st.dictionaries(st.sampled_from(["HOME", "WAREHOUSE_PASSWORD", "x"]), st.text()))
def test_kubernetes_replaces_nothing_in_what_is_passed_on_verbatim(arguments, variables):
    assert [expand(verbatim(argument), variables) for argument in arguments] == arguments


@given(names, st.text(max_size=80))
def test_lines_for_task_logs_cannot_control_a_terminal(name, text):
    entry = result(name, message=text, relation_name=name, skipped_because=(f"model.shop.{name}",))
    lines = [started_line(entry), *finished_lines(entry)]
    lines += finished_lines(msgspec.structs.replace(entry, status="warn"))
    for status in ("started", "success", "error", "skipped", "not run"):
        tell_changes(lines, [msgspec.structs.replace(entry, status=status)], {}, "2026-11-21T08:00:00")
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < MAX_LINE_CHARS + 100


@given(names, st.text(max_size=80))
def test_the_reason_for_which_a_sensor_fails_cannot_control_a_terminal(name, text):
    producer = Producer("failed", Closed(1))
    entries = [
        result(name, message=text),
        result(name, message=text, skipped_because=(f"model.shop.{name}",)),
        msgspec.structs.replace(result(name), status="skipped", skipped_because=(f"model.shop.{name}",)),
        None,
    ]
    for entry in entries:
        assert shown_safely(decide(producer, [(f"model.shop.{name}", entry)]).reason)


def manifest_of(directory, found, **more):
    nodes = {
        f"model.shop.{name}": {
            "unique_id": f"model.shop.{name}", "name": name, "resource_type": "model", "package_name": "shop",
            "fqn": ["shop", name], "original_file_path": f"models/{name}.sql", "path": f"{name}.sql", "tags": [],
            "depends_on": {"nodes": []}, "config": {"enabled": True, "materialized": "view"}, "raw_code": "",
        }
        for name in found
    }  # fmt: skip
    version = "https://schemas.getdbt.com/dbt/manifest/v12.json"
    metadata = {"dbt_schema_version": version, "dbt_version": "1.11.0", "project_name": "shop"}
    path = directory / "manifest.json"
    path.write_text(json.dumps({"metadata": metadata, "nodes": nodes, "sources": {}, "macros": {}, **more}))
    return path


def test_the_command_line_prints_no_name_as_it_is(tmp_path, capsys):
    assert main(["ls", "--manifest", str(manifest_of(tmp_path, NAMES))]) == 0
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert len(lines) == len(NAMES)
    assert all(line.isprintable() for line in lines)


def test_an_error_that_quotes_a_name_cannot_control_a_terminal(tmp_path, capsys):
    definition = {"method": "fqn", "value": "*"}
    selectors = {"nightly\x1b[2J": {"name": "nightly\x1b[2J", "definition": definition, "description": ""}}
    manifest = manifest_of(tmp_path, ["orders"], selectors=selectors)
    assert main(["ls", "--manifest", str(manifest), "--selector", "nightly"]) == 2
    said = capsys.readouterr().err
    assert r"did you mean 'nightly\x1b[2J'" in said
    assert shown_safely(said)


@pytest.mark.parametrize("name", NAMES)
def test_a_retry_asks_for_a_node_in_a_way_that_is_no_option_or_not_at_all(tmp_path, name):
    graph = load_manifest(manifest_of(tmp_path, [name, "other"]))
    found = selection_of(graph, frozenset({f"model.shop.{name}"}))
    assert found is None or all(criterion.startswith("fqn:") for criterion in found.select)


def test_a_manifest_of_hostile_names_writes_no_file_but_its_own(tmp_path):
    load_manifest(manifest_of(tmp_path, NAMES))
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("bomb", ["[" * 500_000, '{"nodes":' * 200_000, '{"nodes":{"a":' + "[" * 500_000])
def test_a_manifest_that_is_a_bomb_of_brackets_is_refused(tmp_path, bomb):
    path = tmp_path / "manifest.json"
    path.write_text(bomb)
    with pytest.raises(ManifestError):
        load_manifest(path)
