"""Why a run did not go well: what failed by itself first, what kept the most from being built before all."""

from datetime import datetime, timedelta, timezone

import pytest

from dbt_watch.core.causes import causes_of, has_broken_off
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.results import NodeResult, NotRun

START = datetime(2026, 11, 26, 12, 0, tzinfo=timezone.utc)


def result(name, status, *, at=None, **more):
    unique_id = name if "." in name else f"model.shop.{name}"
    ended = None if at is None else START + timedelta(seconds=at)
    return NodeResult(
        unique_id=unique_id, name=name, resource_type="model", status=status, finished_at=ended, **more
    )


def skipped(name, *because):
    return result(name, "skipped", skipped_because=tuple(f"model.shop.{cause}" for cause in because))


def causes(*results, closed=None):
    closed = closed or Closed(1)
    found = {each.unique_id: each for each in results}
    return causes_of(found, broke_off=has_broken_off(closed, found), why=closed.reason or "")


def titles(*results, closed=None):
    return [cause.title for cause in causes(*results, closed=closed)]


def test_what_kept_the_most_from_being_built_comes_first():
    found = causes(
        result("a", "error", at=1), result("b", "error", at=2), skipped("c", "b"), skipped("d", "b", "a")
    )
    assert [(cause.title, len(cause.blocked)) for cause in found] == [("b: error", 2), ("a: error", 1)]


def test_of_those_that_kept_as_many_what_failed_first_comes_first():
    assert titles(result("a", "error", at=3), result("b", "fail"), result("c", "fail", at=1)) == [
        "c: fail",
        "a: error",
        "b: fail",
    ]


def test_what_dbt_cancelled_for_a_failure_is_no_cause():
    assert titles(result("a", "cancelled"), result("b", "error")) == ["b: error"]


def test_what_failed_in_another_pod_is_the_cause_of_what_was_held_back_here():
    (cause,) = causes(
        skipped("c", "a"), skipped("d", "a"), closed=Closed(1, "2 nodes were not built: upstream `a` failed")
    )
    assert (cause.node, cause.title) == (None, "upstream `a` failed")
    assert cause.blocked == ("model.shop.c", "model.shop.d")


def test_a_task_in_the_middle_that_failed_is_the_cause_in_its_own_words():
    held = result("c", "skipped", message="task `fit` failed")
    (cause,) = causes(held, closed=Closed(1, "1 node was not built: upstream `fit` failed"))
    assert (cause.title, cause.blocked) == ("task `fit` failed", ("model.shop.c",))


def test_a_pod_that_was_lost_is_the_cause_where_nothing_had_failed():
    (cause,) = causes(
        result("a", "success"),
        result("b", "not run", not_run=NotRun.UNFINISHED),
        closed=Closed(None, "the pod was deleted"),
    )
    assert (cause.title, cause.message) == ("dbt stopped early", "the pod was deleted")
    assert cause.blocked == ("model.shop.b",)


def test_of_nodes_that_are_not_known_it_is_not_said_that_dbt_broke_off():
    reason = "dbt succeeded, but the outcome of 1 node (a) is not known: the log lacks its summary"
    (cause,) = causes(result("a", "not run", not_run=NotRun.NOT_KNOWN), closed=Closed(1, reason))
    assert (cause.title, cause.message) == ("the outcome of some nodes is not known", reason)


def test_a_run_that_counts_as_failed_though_all_was_built_says_why():
    (cause,) = causes(result("a", "success"), closed=Closed(1, "the manifest and the project differ"))
    assert (cause.title, cause.message) == ("the run counts as failed", "the manifest and the project differ")


def test_a_run_that_went_well_has_no_cause():
    assert titles(result("a", "success"), closed=Closed(0)) == []


EARLY = result("a", "not run", not_run=NotRun.ENDED_EARLY)


@pytest.mark.parametrize(
    ("exit_code", "results", "expected"),
    [
        (0, (), False),
        (0, (EARLY,), False),
        (1, (), False),
        (1, (result("b", "error"), EARLY), False),
        (1, (skipped("b", "c"), EARLY), False),
        (1, (result("a", "success"),), False),
        (1, (EARLY,), True),  # as Fusion ends when it cannot parse the project
        (2, (), True),
        (137, (result("a", "error"),), True),
        (None, (), True),
    ],
)
def test_with_exit_code_1_dbt_may_just_have_failed(exit_code, results, expected):
    found = {each.unique_id: each for each in results}
    assert has_broken_off(Closed(exit_code), found) is expected
