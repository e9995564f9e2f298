"""Lanes and the critical path, whatever the times are."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_watch.reporting.critical_path import critical_path
from dbt_watch.reporting.run_record import Bar
from dbt_watch.reporting.timeline import MAX_IDLE_LANES, lanes_of

# Quarters of a second, so that sums are exact and ends often meet beginnings.
times = st.integers(0, 60).map(lambda number: number / 4)
spans = st.lists(st.tuples(times, times).map(sorted), max_size=25)


def bars(spans):
    return [Bar(f"model.shop.m{n}", begin, end, "success", "success") for n, (begin, end) in enumerate(spans)]


def overlap(spans):
    """Return how many nodes at most ran at the same moment; one that took no time ran between two others."""
    moments = {time for span in spans for time in span}
    lasting = [sum(begin <= moment < end for begin, end in spans) for moment in moments]
    brief = [sum(begin <= at < end for begin, end in spans) + 1 for at, until in spans if at == until]
    return max(lasting), max(brief, default=0)


@settings(max_examples=300, deadline=None)
@given(spans)
def test_in_a_lane_nothing_overlaps_and_all_that_ran_is_in_one(spans):
    lanes, has_threads = lanes_of(bars(spans), {})
    assert not has_threads or not spans
    for lane in lanes:
        assert all(first.end <= then.begin for first, then in itertools.pairwise(lane.bars))
    assert sorted(bar.node for lane in lanes for bar in lane.bars) == sorted(bar.node for bar in bars(spans))


@settings(max_examples=300, deadline=None)
@given(spans.filter(bool))
def test_there_are_as_few_lanes_as_will_do(spans):
    lasting, brief = overlap(spans)
    assert lasting <= len(lanes_of(bars(spans), {})[0]) <= max(lasting, brief)


@settings(max_examples=100, deadline=None)
@given(spans.filter(bool))
def test_a_lane_is_idle_when_nothing_runs_in_it(spans):
    lanes, _ = lanes_of(bars(spans), {})
    length = max(end for _, end in spans) - min(begin for begin, _ in spans)
    for lane in lanes:
        assert lane.idle == pytest.approx(length - sum(bar.end - bar.begin for bar in lane.bars))


def test_lanes_are_the_threads_that_dbt_names():
    made = bars([(0, 1), (0, 2), (2, 3)])
    lanes, has_threads = lanes_of(
        made, dict(zip([bar.node for bar in made], ["Thread-2", "Thread-10", "Thread-2"], strict=True))
    )
    assert has_threads
    assert [(lane.name, len(lane.bars), lane.idle) for lane in lanes] == [
        ("Thread-2", 2, 1),
        ("Thread-10", 1, 1),
    ]


def test_the_main_thread_runs_hooks_and_is_never_idle():
    made = bars([(0, 1), (1, 3)])
    names = {made[0].node: "MainThread", made[1].node: "Thread-1 (worker)"}
    lanes, _ = lanes_of(made, names, threads=2)
    assert [(lane.name, lane.idle) for lane in lanes] == [
        ("MainThread", 0),
        ("Thread-1 (worker)", 1),
        ("", 3),
    ]


def test_one_name_for_all_threads_is_no_name():
    made = bars([(0, 2), (1, 3)])
    lanes, has_threads = lanes_of(made, {bar.node: "tokio-rt-worker" for bar in made})
    assert (len(lanes), has_threads) == (2, False)


def test_a_thread_that_did_nothing_is_a_lane_too():
    lanes, _ = lanes_of(bars([(0, 4)]), {}, threads=3)
    assert [lane.idle for lane in lanes] == [0, 4, 4]
    assert len(lanes_of(bars([(0, 4)]), {}, threads=9_999)[0]) == 1 + MAX_IDLE_LANES


def test_without_nodes_there_are_no_lanes():
    assert lanes_of([], {}, threads=4)[0] == ()


@st.composite
def projects(draw):
    """Return spans, and parents as any manifest may have them: also where the times contradict them."""
    made = draw(spans.filter(bool))
    names = [f"{draw(st.sampled_from(['model', 'test', 'unit_test']))}.shop.n{n}" for n in range(len(made))]
    parents = {
        name: draw(st.lists(st.sampled_from(names), max_size=3, unique=True)) if n else []
        for n, name in enumerate(names)
    }
    ran = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    return {name: tuple(made[names.index(name)]) for name in ran}, parents


@settings(max_examples=300, deadline=None)
@given(projects())
def test_a_critical_path_is_as_long_as_the_longest_node_and_never_longer_than_the_run(project):
    ran, parents = project
    path = critical_path(ran, parents)
    if path is None:
        assert not any(parents.values())
        return
    lengths = {name: end - begin for name, (begin, end) in ran.items()}
    assert path.seconds >= max(lengths.values())
    assert path.seconds <= max(end for _, end in ran.values()) - min(begin for begin, _ in ran.values())
    assert path.seconds == sum(lengths[name] for name in path.nodes)
    assert all(ran[first][1] <= ran[then][0] for first, then in itertools.pairwise(path.nodes))


def test_a_critical_path_goes_through_tests_and_past_what_did_not_run():
    parents = {
        "model.shop.a": [],
        "test.shop.a_is_unique": ["model.shop.a"],
        "model.shop.ephemeral": ["model.shop.a"],
        "model.shop.b": ["model.shop.ephemeral"],
        "unit_test.shop.c.adds_up": ["model.shop.c"],
        "test.shop.of_both": ["model.shop.a", "model.shop.other"],
        "model.shop.other": [],
        "model.shop.c": ["model.shop.a"],
    }
    ran = {
        "model.shop.a": (0, 1),
        "test.shop.a_is_unique": (1, 4),
        "test.shop.of_both": (1, 3.9),
        "model.shop.b": (4, 5),
        "unit_test.shop.c.adds_up": (4, 6),
        "model.shop.c": (9, 10),
    }
    path = critical_path(ran, parents)
    # What `of_both` reads is not all before `c`, so that `c` did not wait for it.
    assert path.nodes == ("model.shop.a", "test.shop.a_is_unique", "unit_test.shop.c.adds_up", "model.shop.c")
    assert path.seconds == 1 + 3 + 2 + 1


def test_without_lineage_there_is_no_critical_path():
    assert critical_path({"model.shop.a": (0, 1)}, {}) is None
    assert critical_path({}, {"model.shop.a": ["model.shop.b"]}) is None


def test_a_long_chain_is_followed_to_its_end():
    names = [f"model.shop.m{n}" for n in range(3_000)]
    ran = {name: (float(n), n + 1.0) for n, name in enumerate(names)}
    path = critical_path(ran, {name: names[max(n - 1, 0) : n] for n, name in enumerate(names)})
    assert len(path.nodes) == path.seconds == 3_000
