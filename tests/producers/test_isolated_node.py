"""How the task of an isolated node ends, and what a part of a project asks of the tasks before it."""

from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom, TaskStatesResult, XComResult

from dbt_watch.airflow.compat import AirflowFailException, AirflowSkipException
from dbt_watch.core.command import Selection
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.part import Part, Upstream
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.exceptions import DbtRunFailed
from dbt_watch.producers.ending import Ending
from dbt_watch.producers.pods.operator import producer_class
from dbt_watch.producers.retry_state import Memory
from dbt_watch.producers.upstreams import held_back_of, raise_if_missing

NODE, TEST = "model.jaffle_shop.orders", "test.jaffle_shop.unique_orders.0123456789"
FAILED = DbtRunFailed("dbt ended with exit code 1: unique_orders: got 3 results")


class Store(dict):
    set = dict.__setitem__


class Task:
    """A task instance, with what it pushes."""

    dag_id, run_id, task_id, map_index = "shop", "run", "shop.orders", -1

    def __init__(self, number=1, tries=1):
        self.try_number, self.max_tries = number, tries
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


@pytest.fixture
def airflow(monkeypatch):
    """The states of tasks, and their XComs, as Airflow tells them."""
    told = SimpleNamespace(states={}, xcoms={}, asked=[])

    def send(message):
        told.asked.append(message)
        if isinstance(message, GetTaskStates):
            found = {
                name: state
                for name, state in told.states.items()
                if name.partition("#")[0] in message.task_ids
            }
            return TaskStatesResult(
                task_states={
                    message.run_ids[0]: {name.replace("#", "_"): state for name, state in found.items()}
                }
            )
        assert isinstance(message, GetXCom)
        value = told.xcoms.get(message.task_id) if message.key == "return_value" else None
        return XComResult(key=message.key, value=value)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
    return told


@pytest.fixture
def operator(graph):
    def make(**arguments):
        operator = producer_class()(
            task_id="orders", image="shop:1", build={}, watched={}, selection=Selection(), graph=graph,
            selected=frozenset({NODE, TEST}), **arguments,
        )  # fmt: skip
        operator.part = Part(frozenset({NODE, TEST}), stands_for=(NODE,))
        return operator

    return make


def result(unique_id, status, **values):
    return NodeResult(unique_id=unique_id, status=status, **values)


def ending(exit_code, *results, was_held_back=False, reason=None):
    entries = {entry.unique_id: entry for entry in results}
    return Ending(Closed(exit_code, reason), FAILED, entries, was_held_back)


def end(operator, task, end, store=None):
    context = {"ti": task, "task_state_store": store}
    return operator._task_end(context).after(end, "what the pod has left in XCom")


def test_an_isolated_node_leaves_its_result_as_a_sensor_would(operator):
    task, built = Task(), result(NODE, "success", rows_affected=7)
    assert end(operator(), task, ending(0, built)) == built.to_dict()
    assert task.pushed == {"return_value": built.to_dict()}


def test_an_isolated_node_says_what_broke_it_when_its_task_fails_and_not_before(operator, capsys):
    lines = ["upstream `stg_orders` failed", "not built because of it: 1 node, orders"]
    attempt = SimpleNamespace(
        open=lambda: None,
        closed=Closed(1),
        watch=SimpleNamespace(failure_lines=lambda: lines),
        held=None,
        number=1,
        signal=SimpleNamespace(is_leaving=True),
    )

    def fail():
        assert "[error" not in capsys.readouterr().out
        raise FAILED

    with pytest.raises(DbtRunFailed):
        operator()._attempted({"ti": Task()}, attempt, fail)
    told = [line for line in capsys.readouterr().out.splitlines() if "[error" in line]
    assert all(words in line for words, line in zip(lines, told, strict=True))


def test_a_producer_leaves_what_the_pod_has_left(operator):
    producer = operator()
    producer.part = None
    assert end(producer, Task(), ending(0)) == "what the pod has left in XCom"


def test_a_test_that_failed_is_tried_again_and_its_node_is_not(operator):
    store, built = Store(), result(NODE, "success")
    with pytest.raises(DbtRunFailed):
        end(operator(), Task(1, tries=1), ending(1, built, result(TEST, "fail")), store)
    assert Memory({"ti": Task(2, tries=1), "task_state_store": store}).built == [built]


def test_a_node_that_failed_is_not_remembered_as_built(operator):
    store = Store()
    with pytest.raises(DbtRunFailed):
        end(operator(), Task(1, tries=1), ending(1, result(NODE, "error")), store)
    assert Memory({"ti": Task(2, tries=1), "task_state_store": store}).built == []


def test_in_the_last_attempt_a_failed_test_is_its_own_task_s_and_the_node_a_success(operator):
    built = result(NODE, "success")
    task = Task(2, tries=1)
    assert end(operator(), task, ending(1, built, result(TEST, "fail"))) == built.to_dict()


def test_in_the_last_attempt_a_failed_node_fails_with_what_dbt_said(operator):
    task, failed = Task(1, tries=0), result(NODE, "error", message="no such column")
    with pytest.raises(DbtRunFailed, match="unique_orders: got 3 results"):
        end(operator(), task, ending(1, failed))
    assert task.pushed == {"return_value": failed.to_dict()}


def test_a_node_that_was_held_back_fails_with_the_reason_and_is_not_tried_again(operator):
    skipped = result(NODE, "skipped", skipped_because=("model.jaffle_shop.stg_orders",))
    held = ending(
        1, skipped, was_held_back=True, reason="2 nodes were not built: upstream `stg_orders` failed"
    )
    with pytest.raises(AirflowFailException, match="upstream `stg_orders` failed"):
        end(operator(), Task(1, tries=3), held)


def test_a_node_that_a_run_leaves_out_is_skipped_with_the_reason(operator):
    left_out = result(NODE, "not run", not_run=NotRun.LEFT_OUT, message="left out of this run by --select x")
    with pytest.raises(AirflowSkipException, match="left out of this run by --select x"):
        end(operator(), Task(), ending(0, left_out))


def test_a_warning_is_told_once_the_result_is_there(operator):
    told = []
    operator = operator(on_warning=[lambda context: told.append(dict(context["ti"].pushed))])
    end(operator, Task(), ending(0, result(NODE, "warn")))
    assert [value["return_value"]["status"] for value in told] == ["warn"]


def test_a_callback_that_fails_changes_nothing(operator):
    def fail(context):
        raise RuntimeError("no network")

    assert end(operator(on_warning=[fail]), Task(), ending(0, result(NODE, "warn")))["status"] == "warn"


# What came before.


def test_tasks_whose_values_dbt_is_called_with_must_have_ended_well(airflow):
    airflow.states = {"land": "success", "name": "failed"}
    with pytest.raises(AirflowFailException, match="dbt was not started: name failed"):
        raise_if_missing(Task(), ["land", "name"])


def test_one_that_was_skipped_has_the_project_skipped(airflow):
    airflow.states = {"land": "skipped"}
    with pytest.raises(AirflowSkipException, match="dbt was not started: land was skipped"):
        raise_if_missing(Task(), ["land"])


def test_of_a_mapped_task_each_instance_counts(airflow):
    airflow.states = {"land#0": "success", "land#1": "upstream_failed", "land#2": "skipped"}
    with pytest.raises(AirflowFailException, match="land failed"):
        raise_if_missing(Task(), ["land"])
    airflow.states = {"land#0": "success", "land#1": "skipped"}
    raise_if_missing(Task(), ["land"])


def test_nothing_is_asked_where_nothing_is_needed(airflow):
    raise_if_missing(Task(), [])
    assert not airflow.asked


def test_what_failed_before_a_part_holds_back_its_nodes_and_only_that_is_looked_at(airflow, graph):
    upstreams = (
        Upstream("shop.stg_orders", "model.jaffle_shop.stg_orders", (NODE,)),
        Upstream("shop.stg_payments", "model.jaffle_shop.stg_payments", (NODE,)),
    )
    airflow.states = {"shop.stg_orders": "failed", "shop.stg_payments": "success"}
    failed = result("model.jaffle_shop.stg_orders", "error")
    airflow.xcoms = {"shop.stg_orders": failed.to_dict()}
    part = Part(frozenset({NODE}), (NODE,), upstreams)
    held = held_back_of(Task(2), part, {NODE}, graph, on_stale="fail")
    (entry,) = held.entries
    assert (entry.skipped_because, entry.attempt) == (("model.jaffle_shop.stg_orders",), 2)
    assert [item.task_id for item in airflow.asked if isinstance(item, GetXCom)] == ["shop.stg_orders"]


def test_a_task_in_the_middle_is_looked_at_in_all_its_instances(airflow, graph):
    part = Part(frozenset({NODE}), (NODE,), (Upstream("fit", None, (NODE,)),))
    airflow.states = {"fit#0": "success", "fit#1": "failed"}
    held = held_back_of(Task(), part, {NODE}, graph, on_stale="fail")
    assert held.entries[0].message == "task `fit` failed"
