"""A dbt that follows a script: what it writes is what dbt would have written, and says what was scripted."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from played import BUILD, Played

from dbt_watch.exceptions import ArgumentError
from dbt_watch.testing import FakeDbt, node_run

sys.path.append(str(Path(__file__).parents[1] / "core"))

from manifest_builder import generic_test, manifest, resource

RECORDINGS = Path(__file__).parents[1] / "recordings"
SHOP = (
    resource("seed.shop.raw"),
    resource(
        "source.shop.landed.payments",
        source_name="landed",
        freshness={"warn_after": {"count": 1, "period": "day"}},
    ),
    resource("model.shop.orders", "seed.shop.raw", config={"materialized": "table"}),
    generic_test("test.shop.not_null_orders.1", "model.shop.orders"),
    resource("unit_test.shop.orders.adds_up", "model.shop.orders"),
    resource("model.shop.gone", "model.shop.orders", config={"materialized": "ephemeral"}),
    resource("model.shop.customers", "model.shop.gone"),
    resource("model.shop.stock", "source.shop.landed.payments"),
    resource("exposure.shop.figures", "model.shop.customers"),
)
NODES = {
    "seed.shop.raw": "success",
    "model.shop.orders": "success",
    "test.shop.not_null_orders.1": "pass",
    "unit_test.shop.orders.adds_up": "pass",
    "model.shop.customers": "success",
    "model.shop.stock": "success",
    "exposure.shop.figures": "no-op",
}


@pytest.fixture
def shop(tmp_path):
    return FakeDbt(written(tmp_path, *SHOP))


def written(directory, *resources):
    path = directory / "manifest.json"
    path.write_text(json.dumps(manifest(*resources)))
    return path


def states_of(played):
    return {node: status for node, status in played.states().items() if node in NODES}


def test_a_node_that_is_not_named_succeeds(shop):
    played = Played(shop)
    assert states_of(played) == NODES
    assert played.exit_code == 0


def test_what_depends_on_a_failed_node_is_skipped(shop):
    played = Played(shop.fails("orders", "relation raw does not exist"))
    entries = played.entries()
    assert entries["model.shop.orders"].message == "relation raw does not exist"
    assert entries["test.shop.not_null_orders.1"].skipped_because == ("model.shop.orders",)
    skipped = {"test.shop.not_null_orders.1", "model.shop.customers", "exposure.shop.figures"}
    assert states_of(played) == NODES | {"model.shop.orders": "error"} | dict.fromkeys(skipped, "skipped")
    assert played.exit_code == 1


def test_a_failed_test_keeps_back_what_is_made_of_its_node_and_a_warning_does_not(shop):
    failed = Played(shop.fails("test.shop.not_null_orders.1"))
    assert states_of(failed)["model.shop.customers"] == "skipped"
    assert states_of(failed)["test.shop.not_null_orders.1"] == "fail"
    warned = Played(shop.warns("test.shop.not_null_orders.1", "3 rows have none"))
    assert states_of(warned) == NODES | {"test.shop.not_null_orders.1": "warn"}
    assert warned.entries()["test.shop.not_null_orders.1"].message == "3 rows have none"


def test_a_unit_test_runs_before_its_model(shop):
    played = Played(shop.fails("adds_up"))
    assert states_of(played)["model.shop.orders"] == "skipped"


def test_a_retry_builds_what_is_asked_for_and_a_node_that_fails_once_succeeds_then(shop):
    dbt = shop.fails("orders", times=1)
    assert Played(dbt).exit_code == 1
    again = Played(dbt, *BUILD, "--select", "orders", "customers", "--indirect-selection", "empty")
    assert again.exit_code == 0
    first, second = dbt.commands
    first.assert_selects("raw", "orders")
    second.assert_leaves_out("raw")
    assert second.nodes == {"orders", "customers", "adds_up"}
    with pytest.raises(AssertionError, match=r"not selected: raw; .* selects adds_up, customers, orders"):
        second.assert_selects("raw")


def test_a_command_tells_of_its_options(shop):
    Played(shop, *BUILD, "--vars", '{"batch": 7}', "--full-refresh", "--target=prod", "--exclude", "stock")
    (command,) = shop.commands
    assert (command.name, command.vars, command.full_refresh, command.target) == (
        "build",
        {"batch": 7},
        True,
        "prod",
    )
    assert command.exit_code == 0
    assert "model.shop.stock" not in command.ended


def test_rows_are_reported(shop):
    assert Played(shop.affects("raw", 120)).entries()["seed.shop.raw"].rows_affected == 120


def test_nodes_of_several_threads_run_at_a_time(shop, monkeypatch):
    monkeypatch.setattr(node_run, "time", SimpleNamespace(monotonic=lambda: 100.0))
    played = Played(shop.takes("raw", 2.0).takes("stock", 2.0))
    assert played.slept == 4.0  # on this clock no time passes, so the second is as far away as the first
    assert played.entries()["seed.shop.raw"].execution_time == 2.0


def test_with_fail_fast_nothing_begins_after_a_failure(shop):
    played = Played(shop.fails("raw"), *BUILD, "--fail-fast", "--threads", "1")
    assert [node for node, entry in played.entries().items() if entry.status != "not run"] == [
        "seed.shop.raw"
    ]


def test_lines_of_other_programs_stand_between_the_records(shop):
    lines = Played(shop.prints("hello").prints("from a model", during="orders")).log.splitlines()
    assert "hello" in lines
    assert "from a model" in lines


def test_a_crash_comes_before_the_first_node(shop):
    played = Played(shop.crashes("Parsing Error\n  in models/orders.sql"))
    assert played.exit_code == 2
    assert set(states_of(played).values()) == {"not run"}
    assert "Parsing Error" in played.entries()["model.shop.orders"].message


def test_a_process_that_ends_says_nothing_more(shop):
    played = Played(shop.exits(during="orders"))
    assert played.exit_code == 137
    states = states_of(played)
    assert states["seed.shop.raw"] == "success"
    assert states["model.shop.orders"] == states["model.shop.customers"] == "not run"
    assert Played(shop.exits(after="orders", exit_code=3)).exit_code == 3


def test_sources_are_checked(shop):
    words = ("--log-format", "json", "source", "freshness")
    assert Played(shop, *words).entries()["source.shop.landed.payments"].status == "pass"
    stale = Played(shop.fails("landed.payments"), *words)
    assert stale.exit_code == 1
    assert stale.entries()["source.shop.landed.payments"].status == "error"
    assert Played(shop.warns("landed.payments"), *words).entries()["source.shop.landed.payments"].is_warning


def test_a_selection_that_matches_nothing_is_told_as_dbt_does(shop):
    played = Played(shop, *BUILD, "--select", "nobody")
    assert played.exit_code == 0
    assert "NothingToDo" in played.log


def test_without_the_options_of_the_producer_the_log_is_text(shop):
    log = Played(shop, "build", "--select", "raw").log
    assert "1 of 1 OK seed file main.raw" in log
    assert "{" not in log


def test_artifacts_are_left_in_the_project(shop, tmp_path):
    played = Played(shop.fails("orders"), *BUILD, "--project-dir", str(tmp_path), project_dir=str(tmp_path))
    results = (tmp_path / "target/run_results.json").read_bytes()
    assert (tmp_path / "target/manifest.json").exists()
    # They say the same as the log, and belong to the same command.
    assert {node: entry.status for node, entry in played.entries(results).items()} == played.states()
    found = {one["unique_id"]: one["status"] for one in json.loads(results)["results"]}
    assert found["model.shop.orders"] == "error"


def test_another_project_directory_than_that_of_the_image_is_none(shop):
    assert Played(shop, *BUILD, "--project-dir", "/nowhere", project_dir="/usr/app/shop").exit_code == 2


def test_a_recorded_log_is_played_under_an_invocation_of_its_own():
    dbt = FakeDbt.recorded(RECORDINGS / "1.13__duckdb__jaffle_fail.jsonl")
    first, second = Played(dbt), Played(dbt)
    assert first.exit_code == 1
    assert first.states() == second.states()
    assert first.states()["model.jaffle_shop.orders"] == "error"
    assert first.log != second.log


def test_what_cannot_be_scripted_is_refused(shop):
    with pytest.raises(ArgumentError, match=r"did you mean orders\?"):
        shop.fails("order")
    with pytest.raises(ArgumentError, match="dbt never warns about a model"):
        shop.warns("orders")
    with pytest.raises(ArgumentError, match="either `during` or `after`"):
        shop.exits()


def test_each_event_has_the_fields_and_the_code_that_dbt_writes(shop):
    recorded = {}
    names = ("1.9__duckdb__build_t4_fail_debug", "1.11__duckdb__build_t4_ok_fresh", "1.12__duckdb__jaffle_freshness",
             "1.13__duckdb__jaffle_fail", "1.12__duckdb__parse_error_yaml", "1.12__duckdb__build_select_nothing")  # fmt: skip
    for name in names:
        for key, fields, code in events((RECORDINGS / f"{name}.jsonl").read_text()):
            recorded.setdefault(key, []).append((fields, code))
    script = shop.fails("orders").warns("test.shop.not_null_orders.1").fails("landed.payments")
    logs = [
        Played(script).log,
        Played(shop.warns("test.shop.not_null_orders.1").fails("stock")).log,
        Played(script, *BUILD[:-1], "source", "freshness").log,
        Played(shop.crashes("no"), *BUILD).log,
        Played(shop, *BUILD, "--select", "nobody").log,
    ]
    written = [event for log in logs for event in events(log)]
    assert len({key for key, _, _ in written}) > 20
    for key, fields, code in written:
        if key in recorded:  # the recordings hold no exposure that is built
            assert any(fields == known and code == expected for known, expected in recorded[key]), (
                key, fields, code, recorded[key][0],
            )  # fmt: skip


def events(log):
    """Yield of each record its event and resource type, the names of its fields, and its code."""
    for line in log.split("\n"):
        if line[:1] == "{":
            record = json.loads(line)
            data, info = record["data"], record["info"]
            node = {key for key in data.get("node_info", {}) if key != "node_checksum"}
            key = (info["name"], (data.get("node_info") or {}).get("resource_type"))
            yield key, frozenset(data) | {f"node_info.{name}" for name in node}, info["code"]


@st.composite
def projects(draw):
    """Draw models with their parents and tests, and which of all of these fail."""
    count = draw(st.integers(1, 7))
    parents = [
        draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set() for number in range(count)
    ]
    tested = [draw(st.booleans()) for _ in range(count)]
    ids = [f"m{number}" for number in range(count)] + [
        f"t{number}" for number in range(count) if tested[number]
    ]
    return parents, tested, draw(st.sets(st.sampled_from(ids), max_size=3))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(projects(), st.sampled_from(["debug", "info"]), st.integers(1, 3))
def test_the_ledger_reads_what_was_scripted(tmp_path_factory, project, level, threads):
    parents, tested, failing = project
    models = [
        resource(f"model.shop.m{number}", *(f"model.shop.m{parent}" for parent in before))
        for number, before in enumerate(parents)
    ]
    tests = [
        generic_test(f"test.shop.t{number}.1", f"model.shop.m{number}")
        for number, is_tested in enumerate(tested)
        if is_tested
    ]
    dbt = FakeDbt(written(tmp_path_factory.mktemp("project"), *models, *tests))
    for name in failing:
        dbt = dbt.fails(name if name[0] == "m" else f"test.shop.{name}.1")
    expected = {}
    for number, before in enumerate(parents):
        held = any(
            expected[f"model.shop.m{parent}"] != "success"
            or expected.get(f"test.shop.t{parent}.1", "pass") != "pass"
            for parent in before
        )
        own = "skipped" if held else "error" if f"m{number}" in failing else "success"
        expected[f"model.shop.m{number}"] = own
        if tested[number]:
            outcome = "fail" if f"t{number}" in failing else "pass"
            expected[f"test.shop.t{number}.1"] = outcome if own == "success" else "skipped"
    played = Played(dbt, "--log-format", "json", "--log-level", level, "build", "--threads", str(threads))
    assert played.states() == expected
    assert played.exit_code == int(bool(set(expected.values()) & {"error", "fail"}))
    assert dbt.commands[0].ended == expected
