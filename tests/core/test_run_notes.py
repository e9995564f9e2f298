"""What a task that runs dbt tells beside its journal: packed into XComs and read back, whatever lies there."""

import json
import random

import pytest

from dbt_watch.core.manifest.columns import Column
from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.core.packed import MAX_PIECES, PIECE_CHARS, PackedError, attempt_in, pack, unpack
from dbt_watch.core.results import NodeResult
from dbt_watch.core.run_notes import (
    MAX_COLUMN_PIECES,
    MAX_DESCRIPTION_CHARS,
    OUTLINE_KEY,
    PhaseNote,
    decode_phase,
    encode_phase,
    graph_of,
    outline_of,
    pack_columns,
    pack_outline,
    pack_summary,
    pack_tries,
    summary_of,
    unpack_columns,
    unpack_outline,
    unpack_summary,
    unpack_tries,
)


def graph(parents, **more):
    nodes = [
        Node(
            key,
            key.split(".")[2],
            key.split(".")[0],
            "shop",
            path=f"{key}.sql",
            depends_on=tuple(before),
            **more,
        )
        for key, before in parents.items()
    ]
    return Graph(Facts("1.11.0", "shop"), nodes)


def back(writes, read):
    values = dict(writes)
    (head,) = [value for key, value in writes if not key[-1].isdigit()]
    key = next(key for key, value in writes if value is head)
    return read(head, lambda number: values.get(f"{key}_{number}"))


SHOP = {
    "source.shop.raw.orders": (),
    "model.shop.orders": ("source.shop.raw.orders",),
    "model.shop.late": ("model.shop.orders",),
}
BUILT = ("model.shop.orders", "model.shop.late")


def test_an_outline_has_the_graph_and_the_tasks_of_what_is_built():
    outline = outline_of(graph(SHOP), BUILT, {"group.orders": BUILT[:1]}, "group")
    found = back(pack_outline(outline, 1), unpack_outline)
    assert found == outline
    assert found.task_of == {"model.shop.orders": "group.orders"}
    read = graph_of([found])
    assert read.parent_map["model.shop.late"] == ("model.shop.orders",)
    assert read.parent_map["model.shop.orders"] == ("source.shop.raw.orders",)
    assert read.nodes["model.shop.orders"].path == "model.shop.orders.sql"
    assert read.project_name == "shop"


def test_parts_of_a_project_become_one_graph_in_whatever_order_they_come():
    parts = [outline_of(graph(SHOP), [key], {}, "group") for key in BUILT]
    for outlines in (parts, parts[::-1]):
        read = graph_of(outlines)
        assert read.nodes["model.shop.orders"].path
        assert read.parent_map["model.shop.late"] == ("model.shop.orders",)


def test_a_large_outline_goes_without_its_texts_and_one_that_is_larger_not_at_all(monkeypatch):
    description = "".join(chr(33 + number * 7919 % 90) for number in range(MAX_DESCRIPTION_CHARS))
    nodes = {f"model.shop.m{number}": () for number in range(300)}
    outline = outline_of(graph(nodes, description=description), nodes, {}, "group")
    monkeypatch.setattr("dbt_watch.core.packed.MAX_PIECES", 1)
    monkeypatch.setattr("dbt_watch.core.packed.PIECE_CHARS", 2_500)
    read = back(pack_outline(outline, 1), unpack_outline)
    assert len(read.nodes) == 300
    assert {node.description for node in read.nodes} == {""}
    monkeypatch.setattr("dbt_watch.core.packed.PIECE_CHARS", 300)
    with pytest.raises(PackedError):
        pack_outline(outline, 1)


def test_a_value_of_several_pieces_comes_back_with_the_first_piece_written_last():
    value = [str(number * 2654435761) for number in range(30_000)]
    writes = pack("key", value, 3)
    assert len(writes) > 2
    assert writes[-1][0] == "key"
    assert max(len(text) for _, text in writes) <= PIECE_CHARS
    assert attempt_in(writes[-1][1]) == 3
    values = dict(writes)
    assert json.loads(unpack(values["key"], lambda number: values[f"key_{number}"])) == value
    # As Airflow may give it back.
    assert json.loads(unpack(json.loads(values["key"]), lambda number: values[f"key_{number}"])) == value
    with pytest.raises(PackedError, match="missing"):
        unpack(values["key"], lambda _: None)
    # No piece is a number in JSON.
    for _, text in writes[:-1]:
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(text)


@pytest.mark.parametrize(
    "value",
    [
        None, 7, "", "[]", "{}", '{"format": 2, "attempt": 1, "pieces": 1, "data": ""}',
        '{"format": 1, "attempt": 1, "pieces": 0, "data": ""}', f'{{"format": 1, "attempt": 1, "pieces": {MAX_PIECES + 1}, "data": ""}}',
        '{"format": 1, "attempt": 1, "pieces": 1, "data": "%%%"}', '{"format": 1, "attempt": 1, "pieces": 1, "data": "eJw="}',
    ],
)  # fmt: skip
def test_what_is_no_packed_value_is_refused(value):
    with pytest.raises(PackedError):
        unpack(value, lambda _: None)


def test_an_outline_whose_numbers_lead_nowhere_is_refused():
    for nodes in ([["model.a.b", 5, []]], [["model.a.b", -1, [3]]], [["model.a.b", -1, [-1]]]):
        writes = pack(OUTLINE_KEY, ["group", "shop", [], nodes, []], 1)
        with pytest.raises(PackedError, match="do not match"):
            unpack_outline(writes[0][1], lambda _: None)


def test_a_summary_has_the_seconds_of_what_ran():
    results = [
        NodeResult(unique_id="model.shop.a", status="success", execution_time=1.23456),
        NodeResult(unique_id="model.shop.b", status="skipped", execution_time=0.0),
        NodeResult(unique_id="model.shop.c", status="started"),
    ]
    summary = summary_of(results, 1, 1)
    read = back(pack_summary(summary, 1), unpack_summary)
    assert (read.ids, read.states, read.seconds) == (
        ("model.shop.a", "model.shop.b"), ("success", "skipped"), (1.235, None)
    )  # fmt: skip
    assert (read.exit_code, read.begin, read.end) == (1, None, None)


def test_a_phase_comes_back_in_one_short_line():
    note = PhaseNote("pod", "pod pending:\n" + 10_000 * "x", 1.5, 2, "group")
    read = decode_phase(encode_phase(note))
    assert (read.phase, read.at, read.attempt, read.group) == ("pod", 1.5, 2, "group")
    assert "\n" not in read.text
    assert len(read.text) < 600
    for foreign in (None, 3, "", "null", '{"phase": "dancing", "text": "", "at": 1, "attempt": 1}', [1]):
        assert decode_phase(foreign) is None


COLUMNS = {"model.shop.orders": (Column("id", "integer", "The key."), Column("amount"))}


def test_columns_are_read_back():
    assert back(pack_columns(COLUMNS, 2), unpack_columns) == COLUMNS


def test_columns_that_take_too_much_go_without_their_descriptions_and_then_are_refused():
    def column(number, count):
        return Column(f"c{number}", "text", "".join(map(chr, random.sample(range(0x4E00, 0x9FFF), count))))

    random.seed(1)
    many = {f"model.shop.m{n}": tuple(column(m, 200) for m in range(10)) for n in range(120)}
    writes = pack_columns(many, 1)
    assert len(writes) <= MAX_COLUMN_PIECES
    found = back(writes, unpack_columns)
    assert {column.description for columns in found.values() for column in columns} == {""}
    words = {f"model.shop.{random.randbytes(6_000).hex()}": (Column("id"),) for _ in range(100)}
    with pytest.raises(PackedError):
        pack_columns(words, 1)


def test_tries_of_earlier_attempts_are_read_back():
    tries = [
        NodeResult(unique_id="model.shop.orders", status="error", message="no", attempt=1, thread="Thread-2")
    ]
    assert back(pack_tries(tries, 2), unpack_tries) == tries


@pytest.mark.parametrize("read", [unpack_columns, unpack_tries])
def test_columns_and_tries_that_are_something_else_are_refused(read):
    with pytest.raises(PackedError):
        back(pack("dbt_watch_x", {"a": 1}, 1), read)
