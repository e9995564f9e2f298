"""What a part of a project asks of the tasks before it, and what keeps it from running at all."""

from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetTaskStates,
    GetXCom,
    TaskStatesResult,
    XComResult,
)
from hasty_clock import hurry

from dbt_watch.airflow import supervisor
from dbt_watch.airflow.compat import AirflowFailException, AirflowSkipException
from dbt_watch.core.held_back import HeldBack
from dbt_watch.core.part import Part, Upstream
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.producers.upstreams import held_back_of, raise_if_missing

NODE, STAGED = "model.jaffle_shop.orders", "model.jaffle_shop.stg_orders"
SOURCE = "source.jaffle_shop.raw.orders"


class Airflow:
    """The states of the tasks of a run, those of mapped ones with their index, and what they have returned."""

    def __init__(self):
        self.states, self.returned = {}, {}
        self.asked = []
        self.silent = 0

    def send(self, message):
        self.asked.append(message)
        if self.silent:
            self.silent -= 1
            return ErrorResponse()
        if isinstance(message, GetTaskStates):
            states = {name: state for name, state in self.states.items() if self.is_asked(name, message)}
            return TaskStatesResult(task_states={"run": states})
        assert (message.dag_id, message.run_id) == ("shop", "run")
        value = self.returned.get(message.task_id) if message.key == "return_value" else None
        return XComResult(key=message.key, value=value)

    @staticmethod
    def is_asked(name, message):
        assert (message.dag_id, message.run_ids) == ("shop", ["run"])
        task_id, _, index = name.rpartition("_")
        if index.isdecimal() and task_id in message.task_ids:
            return message.map_index in {None, int(index)}
        return name in message.task_ids and message.map_index is None

    def read(self):
        """Return the tasks of which the XCom was read, with the map index."""
        return [(item.task_id, item.map_index) for item in self.asked if isinstance(item, GetXCom)]


@pytest.fixture
def airflow(monkeypatch):
    airflow = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    hurry(monkeypatch, supervisor)
    return airflow


def task_of(number=1, map_index=-1):
    return SimpleNamespace(
        dag_id="shop", run_id="run", task_id="shop.orders", map_index=map_index, try_number=number
    )


def result(unique_id, status, **values):
    return NodeResult(unique_id=unique_id, status=status, **values)


def held(graph, *upstreams, task=None, nodes=(NODE,), on_stale="fail"):
    part = Part(frozenset({NODE}), (NODE,), upstreams)
    return held_back_of(task or task_of(), part, set(nodes), graph, on_stale=on_stale)


BEHIND_STAGED = Upstream("shop.stg_orders", STAGED, (NODE,))
BEHIND_FIT = Upstream("fit", None, (NODE,))


# Tasks whose values dbt is called with.


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({"b": "failed", "a": "upstream_failed", "c": "success"}, "dbt was not started: a, b failed"),
        ({"b": "skipped", "a": "failed"}, "dbt was not started: a failed"),
    ],
)
def test_all_tasks_that_failed_are_named_and_none_that_was_only_skipped(airflow, states, message):
    airflow.states = states
    with pytest.raises(AirflowFailException, match=f"^{message}$"):
        raise_if_missing(task_of(), list(states))


def test_all_tasks_that_were_skipped_are_named(airflow):
    airflow.states = {"b": "skipped", "a": "skipped", "c": "success"}
    with pytest.raises(AirflowSkipException, match=r"^dbt was not started: a, b was skipped$"):
        raise_if_missing(task_of(), ["c", "b", "a"])


def test_a_mapped_task_was_skipped_when_all_of_its_instances_were(airflow):
    airflow.states = {"land_0": "skipped", "land_1": "skipped"}
    with pytest.raises(AirflowSkipException, match="land was skipped"):
        raise_if_missing(task_of(), ["land"])


def test_a_task_of_which_airflow_knows_no_state_keeps_nothing_from_being_built(airflow):
    raise_if_missing(task_of(), ["land"])
    assert airflow.asked


def test_a_project_that_is_mapped_asks_for_the_tasks_of_its_own_index(airflow):
    airflow.states = {"land_0": "failed", "land_1": "success"}
    raise_if_missing(task_of(map_index=1), ["land"])
    with pytest.raises(AirflowFailException, match="land failed"):
        raise_if_missing(task_of(map_index=0), ["land"])


def test_an_airflow_that_answers_late_keeps_no_part_from_its_nodes(airflow, graph):
    airflow.states = {"land": "success", "shop.stg_orders": "failed", "fit": "failed"}
    airflow.silent = 2
    raise_if_missing(task_of(), ["land"])
    airflow.silent = 2
    assert held(graph, BEHIND_STAGED).nodes == {NODE}
    airflow.silent = 2
    assert held(graph, BEHIND_FIT).nodes == {NODE}


# Tasks that hold nodes back.


def test_of_a_task_that_ended_well_nothing_more_is_asked(airflow, graph):
    airflow.states = {"shop.stg_orders": "success", "fit": "success"}
    airflow.returned = {"shop.stg_orders": result(STAGED, "error").to_dict()}
    assert held(graph, BEHIND_STAGED, BEHIND_FIT) == HeldBack()
    assert airflow.read() == []


@pytest.mark.parametrize("returned", ["a report", ["no", "result"], {"nodes": 7}])
def test_what_a_task_in_the_middle_returns_is_never_taken_for_results_of_dbt(airflow, graph, returned):
    airflow.states = {"fit": "failed"}
    airflow.returned = {"fit": returned}
    (entry,) = held(graph, BEHIND_FIT).entries
    assert entry.message == "task `fit` failed"
    assert airflow.read() == []


def test_a_node_that_was_left_out_of_the_run_holds_nothing_back(airflow, graph):
    airflow.states = {"shop.stg_orders": "skipped"}
    airflow.returned = {"shop.stg_orders": result(STAGED, "not run", not_run=NotRun.LEFT_OUT).to_dict()}
    assert held(graph, BEHIND_STAGED) == HeldBack()


def test_a_skip_of_another_task_is_passed_on(airflow, graph):
    airflow.states = {"shop.stg_orders": "skipped"}
    skipped = result(STAGED, "not run", not_run=NotRun.UPSTREAM_SKIPPED)
    airflow.returned = {"shop.stg_orders": skipped.to_dict()}
    (entry,) = held(graph, BEHIND_STAGED, task=task_of(3)).entries
    assert (entry.not_run, entry.attempt) == (NotRun.UPSTREAM_SKIPPED, 3)


@pytest.mark.parametrize(
    ("on_stale", "status", "not_run"), [("fail", "skipped", None), ("skip", "not run", NotRun.STALE_SOURCE)]
)
def test_what_becomes_of_the_readers_of_a_stale_source_is_the_project_s_to_say(
    airflow, graph, on_stale, status, not_run
):
    airflow.states = {"shop.source.raw.orders": "failed"}
    airflow.returned = {"shop.source.raw.orders": result(SOURCE, "error").to_dict()}
    upstream = Upstream("shop.source.raw.orders", SOURCE, (NODE,))
    (entry,) = held(graph, upstream, on_stale=on_stale).entries
    assert (entry.status, entry.not_run) == (status, not_run)


def test_a_mapped_project_is_held_back_by_the_nodes_of_its_own_index_only(airflow, graph):
    airflow.states = {"shop.stg_orders_0": "failed", "shop.stg_orders_1": "success"}
    assert held(graph, BEHIND_STAGED, task=task_of(map_index=1)) == HeldBack()
    assert held(graph, BEHIND_STAGED, task=task_of(map_index=0)).nodes == {NODE}
    assert airflow.read() == [("shop.stg_orders", 0)]


@pytest.mark.parametrize(
    ("states", "is_skipped"),
    [
        ({"fit": "removed"}, True),
        ({"fit_0": "removed", "fit_1": "removed"}, True),
        ({"fit_0": "removed", "fit_1": "skipped"}, True),
        ({"fit_0": "success", "fit_1": "removed"}, False),
        ({"fit_0": "skipped", "fit_1": "success"}, False),
    ],
)
def test_a_task_in_the_middle_of_which_nothing_has_run_has_not_ended_well(airflow, graph, states, is_skipped):
    """Airflow has an instance as removed when what it is mapped over has become shorter."""
    airflow.states = states
    found = held(graph, BEHIND_FIT)
    assert [entry.not_run for entry in found.entries] == [NotRun.UPSTREAM_SKIPPED] * is_skipped
    if is_skipped:
        with pytest.raises(AirflowSkipException, match="fit was skipped"):
            raise_if_missing(task_of(), ["fit"])


def test_nodes_that_a_run_leaves_out_are_not_held_back(airflow, graph):
    airflow.states = {"shop.stg_orders": "failed"}
    assert held(graph, BEHIND_STAGED, nodes=()) == HeldBack()
