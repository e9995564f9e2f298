"""How the task of an isolated node ends: as the node has, whatever else its pod was to build."""

import pytest

from dbt_watch.airflow.compat import AirflowFailException, AirflowSkipException
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.exceptions import DbtRunFailed
from dbt_watch.producers.ending import Ending, end_of_node
from dbt_watch.producers.retry_state import Memory

NODE, TEST = "model.shop.orders", "test.shop.unique_orders.0123456789"
AS_DBT_SAYS = DbtRunFailed("dbt ended with exit code 1: unique_orders: got 3 results")


class Store(dict):
    set = dict.__setitem__


class Task:
    """A task instance, with what it pushes."""

    def __init__(self, number=1, tries=0):
        self.try_number, self.max_tries = number, tries
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


def result(unique_id, status, **values):
    return NodeResult(unique_id=unique_id, status=status, **values)


def ending(exit_code, *results, reason=None, was_held_back=False):
    return Ending(
        Closed(exit_code, reason), AS_DBT_SAYS, {entry.unique_id: entry for entry in results}, was_held_back
    )


def end(task, found, *, stands_for=(NODE,), on_warning=(), store=None):
    return end_of_node({"ti": task, "task_state_store": store}, found, stands_for, on_warning)


@pytest.mark.parametrize(("exit_code", "is_bad"), [(0, False), (1, True), (2, True), (None, True)])
def test_dbt_has_ended_well_with_exit_code_0_only(exit_code, is_bad):
    assert ending(exit_code).is_bad is is_bad


def test_what_dbt_says_of_a_bad_end_may_be_better_with_another_attempt():
    assert ending(1, reason="as dbt said").failure is AS_DBT_SAYS


def test_what_was_held_back_would_be_held_back_again_so_airflow_is_to_try_no_more():
    failure = ending(1, reason="1 node was not built: upstream `raw` failed", was_held_back=True).failure
    assert type(failure) is AirflowFailException
    assert str(failure) == "1 node was not built: upstream `raw` failed"


def test_a_node_whose_tests_belong_to_its_task_leaves_the_results_of_all_in_their_order():
    task, built, tested = Task(), result(NODE, "success"), result(TEST, "pass")
    other = result("test.shop.of_another_task", "pass")
    value = end(task, ending(0, other, tested, built), stands_for=(NODE, TEST))
    assert value == {"nodes": [built.to_dict(), tested.to_dict()]}
    assert task.pushed == {"return_value": value}


def test_a_failed_test_that_belongs_to_the_task_of_its_node_fails_that():
    task, built, failed = Task(), result(NODE, "success"), result(TEST, "fail")
    with pytest.raises(DbtRunFailed) as caught:
        end(task, ending(1, built, failed), stands_for=(NODE, TEST))
    assert caught.value is AS_DBT_SAYS
    assert task.pushed == {"return_value": {"nodes": [built.to_dict(), failed.to_dict()]}}


@pytest.mark.parametrize("status", ["success", "warn"])
def test_with_another_attempt_to_come_what_is_built_is_remembered_and_nothing_is_told_yet(status):
    task, store, told = Task(1, tries=1), Store(), []
    built, failed = result(NODE, status), result(TEST, "fail")
    with pytest.raises(DbtRunFailed) as caught:
        end(task, ending(1, built, failed), stands_for=(NODE, TEST), on_warning=[told.append], store=store)
    assert caught.value is AS_DBT_SAYS
    assert Memory({"ti": Task(2, tries=1), "task_state_store": store}).built == [built]
    assert not task.pushed
    assert not told


def test_a_good_end_needs_no_other_attempt_though_there_is_one_left():
    task, store, built = Task(1, tries=1), Store(), result(NODE, "success")
    assert end(task, ending(0, built), store=store) == built.to_dict()
    assert not store


def test_what_is_held_back_is_told_at_once_though_there_is_an_attempt_left():
    task, store = Task(1, tries=1), Store()
    skipped = result(NODE, "skipped", skipped_because=("model.shop.raw",))
    held = ending(1, skipped, reason="1 node was not built: upstream `raw` failed", was_held_back=True)
    with pytest.raises(AirflowFailException, match=r"^1 node was not built: upstream `raw` failed$"):
        end(task, held, store=store)
    assert task.pushed == {"return_value": skipped.to_dict()}
    assert not store


def test_a_node_that_was_built_before_its_pod_was_lost_is_a_success():
    built = result(NODE, "success")
    assert end(Task(), ending(None, built, reason="the pod was deleted")) == built.to_dict()


def test_a_node_that_dbt_did_not_come_to_fails_with_what_ended_dbt():
    task = Task()
    with pytest.raises(DbtRunFailed) as caught:
        end(task, ending(None, reason="the pod was deleted"))
    assert caught.value is AS_DBT_SAYS
    assert task.pushed == {"return_value": {"nodes": []}}


def test_a_node_of_which_dbt_tells_no_end_is_no_success_however_well_dbt_has_ended():
    with pytest.raises(AirflowFailException, match="its outcome is not known"):
        end(Task(), ending(0))


@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_node_that_a_run_leaves_out_is_skipped_whatever_became_of_the_rest_of_its_pod(exit_code):
    left_out = result(NODE, "not run", not_run=NotRun.LEFT_OUT, message="left out of this run by --select x")
    with pytest.raises(
        AirflowSkipException, match=r"^orders: not built: left out of this run by --select x$"
    ):
        end(Task(), ending(exit_code, left_out, result(TEST, "fail")))


def test_each_callback_for_warnings_is_called_although_one_fails():
    told = []

    def first(context):
        told.append(context["ti"].pushed["return_value"]["status"])
        raise RuntimeError("no network")

    task, warned = Task(), result(NODE, "warn")
    value = end(task, ending(0, warned), on_warning=[first, lambda context: told.append(context["ti"])])
    assert told == ["warn", task]
    assert value == warned.to_dict()


@pytest.mark.parametrize("status", ["success", "error"])
def test_without_a_warning_of_its_own_no_callback_for_warnings_is_called(status):
    told, task = [], Task()
    found = ending(int(status == "error"), result(NODE, status), result(TEST, "warn"))
    if status == "error":
        with pytest.raises(DbtRunFailed):
            end(task, found, on_warning=[told.append])
    else:
        end(task, found, on_warning=[told.append])
    assert not told
