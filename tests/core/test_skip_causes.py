"""Which failed nodes a skipped one names, in graphs with nodes that dbt says nothing of: ephemeral models, above all."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import exit_code_of, graph_of, log_of, read

from dbt_watch.core.log.skip_causes import MAX_CAUSES, SkipCauses
from dbt_watch.core.results import NodeInfo, NodeResult, NotRun
from dbt_watch.reporting.sources import evidence_of_artifact

FAILURES = {"error", "fail"}


def graph(edges, *, ephemeral=(), tests=()):
    """Return a graph of models and tests, by their names, each with what it depends on."""
    return {
        name: NodeInfo(
            name,
            "test" if name in tests else "model",
            "ephemeral" if name in ephemeral else "table",
            tuple(before),
        )
        for name, before in edges.items()
    }


def entries(nodes, **statuses):
    return {
        name: NodeResult(unique_id=name, resource_type=nodes[name].resource_type, status=status)
        for name, status in statuses.items()
    }


def causes(nodes, **statuses):
    """Return what each skipped node names, as soon as it is reported and in the end, if these are the same."""
    told, at_once = {}, {}
    for name, entry in entries(nodes, **statuses).items():
        told[name] = entry
        if entry.is_skipped:
            found = SkipCauses(nodes, told).of(name, tests=any(one.status == "fail" for one in told.values()))
            told[name] = msgspec.structs.replace(entry, skipped_because=found)
            at_once[name] = found
    assert SkipCauses(nodes, told).settled() == at_once
    return at_once


class TestAnEphemeralModel:
    NODES = graph(
        {"raw": (), "gone": ("raw",), "thin": ("gone",), "orders": ("thin",), "late": ("orders",)},
        ephemeral=("gone", "thin"),
    )

    def test_is_looked_through_however_many_stand_in_a_row(self):
        assert causes(self.NODES, raw="error", orders="skipped", late="skipped") == {
            "orders": ("raw",),
            "late": ("raw",),
        }

    @pytest.mark.parametrize(
        "word", [{"status": "not run", "not_run": NotRun.EPHEMERAL}, {"status": "started"}]
    )
    def test_is_looked_through_where_it_has_an_entry_that_says_nothing(self, word):
        known = entries(self.NODES, raw="error", orders="skipped")
        known["gone"] = NodeResult(unique_id="gone", **word)
        found = SkipCauses(self.NODES, known)
        assert found.of("orders", tests=False) == ("raw",)
        assert found.settled() == {"orders": ("raw",)}

    def test_that_failed_itself_is_the_cause(self):
        assert causes(self.NODES, raw="success", gone="error", orders="skipped") == {"orders": ("gone",)}

    def test_that_was_skipped_as_fusion_says_hands_on_its_cause(self):
        assert causes(self.NODES, raw="error", gone="skipped", orders="skipped")["orders"] == ("raw",)

    def test_is_no_way_around_a_node_that_was_built(self):
        nodes = graph(
            {"raw": (), "orders": ("raw",), "gone": ("orders",), "late": ("gone",)}, ephemeral=("gone",)
        )
        assert causes(nodes, raw="error", orders="success", late="skipped") == {"late": ()}

    def test_holds_back_the_start_of_what_is_made_of_it(self):
        known = entries(self.NODES, raw="error", orders="started")
        assert SkipCauses(self.NODES, known).keep_back("orders", tests=False)
        assert not SkipCauses(self.NODES, entries(self.NODES, raw="success")).keep_back("orders", tests=False)

    def test_with_a_failed_test_holds_back_what_is_made_of_it(self):
        nodes = graph(
            {"raw": (), "gone": ("raw",), "t": ("gone",), "orders": ("gone",), "late": ("orders",)},
            ephemeral=("gone",),
            tests=("t",),
        )
        assert causes(nodes, raw="success", t="fail", orders="skipped", late="skipped") == {
            "orders": ("t",),
            "late": ("t",),
        }

    def test_between_a_stale_source_and_a_model_does_not_hold_back_its_start(self):
        nodes = graph({"source.raw": (), "gone": ("source.raw",), "orders": ("gone",)}, ephemeral=("gone",))
        known = {"source.raw": NodeResult(unique_id="source.raw", status="error")}
        found = SkipCauses(nodes, known)
        assert found.of("orders", tests=False) == ("source.raw",)
        assert not found.keep_back("orders", tests=False)


def test_of_many_failed_nodes_behind_an_ephemeral_one_the_first_are_named():
    many = [f"m{number:02}" for number in range(30)]
    nodes = graph(
        {**dict.fromkeys(many, ()), "gone": many, "orders": ("gone",), "late": ("orders",)},
        ephemeral=("gone",),
    )
    found = causes(nodes, **dict.fromkeys(many, "error"), orders="skipped", late="skipped")
    assert found == dict.fromkeys(("orders", "late"), tuple(many[:MAX_CAUSES]))


def test_ephemeral_models_in_a_circle_come_to_an_end():
    nodes = graph({"a": ("b",), "b": ("a",), "orders": ("a",)}, ephemeral=("a", "b"))
    assert causes(nodes, orders="skipped") == {"orders": ()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1.8__duckdb__build_t4_fail_fresh", "not run"),
        ("1.10__duckdb__build_t4_fail_fresh", "not run"),
        ("1.12__postgres__build_t4_fail_debug", "skipped"),  # at debug, dbt says so of an ephemeral model too
    ],
)
def test_dbt_skips_what_is_behind_an_ephemeral_model_and_the_failure_is_named(name, said):
    bad, between, behind = (f"model.shop.{word}" for word in ("bad_model", "eph_of_bad", "grandchild_of_bad"))
    nodes = dict(graph_of(name))
    assert (nodes[between].materialized, nodes[between].depends_on) == ("ephemeral", (bad,))
    # In the recorded project it is made of another skipped node too, which would name the cause.
    nodes[behind] = msgspec.structs.replace(nodes[behind], depends_on=(between,))
    found = read(log_of(name), nodes, exit_code_of(name))
    assert found[between].status == said
    assert (found[behind].status, found[behind].skipped_because) == ("skipped", (bad,))


def test_the_results_of_a_run_name_the_failure_behind_an_ephemeral_model():
    nodes = graph({"raw": (), "gone": ("raw",), "orders": ("gone",)}, ephemeral=("gone",))
    results = [{"unique_id": "raw", "status": "error"}, {"unique_id": "orders", "status": "skipped"}]
    artifact = {"metadata": {"invocation_id": "one"}, "results": results}
    evidence = evidence_of_artifact(msgspec.json.encode(artifact), "run_results.json", nodes)
    assert evidence.results["orders"].skipped_because == ("raw",)


@st.composite
def runs(draw):
    """
    Draw a project, and how dbt ends each of its nodes, in an order in which dbt may come to them.

    A node of which anything upstream failed or was skipped is skipped; an ephemeral one is not reported.
    """
    count = draw(st.integers(3, 10))
    names = [f"n{number}" for number in range(count)]
    edges = {
        name: tuple(draw(st.lists(st.sampled_from(names[:number]), min_size=1, max_size=3, unique=True)))
        if number
        else ()
        for number, name in enumerate(names)
    }
    kinds = [draw(st.sampled_from(["built", "failing", "ephemeral"])) for _ in names]
    ephemeral = {name for name, kind in zip(names, kinds, strict=True) if kind == "ephemeral"}
    failing = {name for name, kind in zip(names, kinds, strict=True) if kind == "failing"}
    blamed, statuses = {}, {}
    for name, before in edges.items():
        because = set().union(*({one} if statuses.get(one) == "error" else blamed[one] for one in before))
        blamed[name] = because
        if name not in ephemeral:
            statuses[name] = "skipped" if because else "error" if name in failing else "success"
    return graph(edges, ephemeral=ephemeral), statuses, blamed


@given(runs())
def test_a_skipped_node_names_all_that_failed_before_it_and_no_other_at_once_and_in_the_end(run):
    nodes, statuses, blamed = run
    wanted = {name: tuple(sorted(blamed[name])) for name, status in statuses.items() if status == "skipped"}
    assert causes(nodes, **statuses) == wanted


@given(runs())
def test_a_start_is_held_back_where_the_end_is_going_to_be_a_skip_and_nowhere_else(run):
    nodes, statuses, _ = run
    told = {}
    for name, status in statuses.items():
        held = SkipCauses(nodes, told).keep_back(name, tests=False)
        assert held == (status == "skipped")
        found = SkipCauses(nodes, told).of(name, tests=False)
        told[name] = NodeResult(unique_id=name, status=status, skipped_because=found if held else ())


@given(runs(), st.randoms(use_true_random=False))
def test_in_the_end_the_order_of_the_reports_does_not_matter(run, rng):
    nodes, statuses, _ = run
    shuffled = list(entries(nodes, **statuses).items())
    rng.shuffle(shuffled)
    assert (
        SkipCauses(nodes, dict(shuffled)).settled() == SkipCauses(nodes, entries(nodes, **statuses)).settled()
    )


def test_a_large_project_with_ephemeral_models_is_settled_in_the_time_that_its_edges_take():
    """Five hundred failed nodes lead through a row of ephemeral models to as many skipped ones, each with all of it upstream."""
    count = 500
    edges = {f"f{number}": () for number in range(count)}
    for number in range(count):
        edges[f"e{number}"] = (f"f{number}", f"e{number - 1}") if number else ("f0",)
        edges[f"s{number}"] = (f"e{number}",)
    nodes = graph(edges, ephemeral=[name for name in edges if name[0] == "e"])
    known = entries(
        nodes, **{name: "error" if name[0] == "f" else "skipped" for name in edges if name[0] != "e"}
    )
    began = time.process_time()
    found = SkipCauses(nodes, known).settled()
    assert time.process_time() - began < 1.0
    assert found["s0"] == ("f0",)
    assert len(found[f"s{count - 1}"]) == MAX_CAUSES
