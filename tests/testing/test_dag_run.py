"""What a run of a DAG has become: found by short names, and told by the assertions that fail."""

import pytest

from dbt_watch.core.results import NodeResult
from dbt_watch.testing import DagRun
from dbt_watch.testing.desk import logs_of

RELATION = "Database Error\n  relation raw.orders does not exist"


@pytest.fixture
def run():
    nodes = [
        NodeResult(unique_id="model.shop.orders", status="error", message=RELATION),
        NodeResult(unique_id="model.shop.customers", status="skipped"),
    ]
    states = {
        "land": "success",
        "build.dbt_build": "failed",
        "build.orders": "failed",
        "build.orders.test": "skipped",
        "build.customers": "failed",
        "publish[0]": "upstream_failed",
    }
    return DagRun(
        "shop",
        "failed",
        states,
        nodes={node.unique_id: node for node in nodes},
        pods=[],
        commands=[],
        log_of=lambda task_id: f"the log of {task_id}",
    )


def test_a_task_is_found_by_the_end_of_its_id(run):
    assert run["orders"].task_id == run["build.orders"].task_id == "build.orders"
    assert run["orders.test"].state == "skipped"
    assert run["orders"].log == "the log of build.orders"
    assert run["publish[0]"].state == "upstream_failed"
    assert "orders" in run
    assert "nobody" not in run
    with pytest.raises(
        KeyError, match=r"nobody: no task has this name; the tasks are land, build\.dbt_build"
    ):
        run["nobody"]


def test_a_name_that_several_tasks_have_is_no_name(run):
    run.states["other.orders"] = "success"
    with pytest.raises(KeyError, match=r"several tasks have this name: build\.orders, other\.orders"):
        run["orders"]


def test_states_that_are_as_expected_say_nothing(run):
    run.assert_states({"land": "success", "orders": "failed", "orders.test": "skipped"})
    run["orders"].assert_failed("raw.orders")
    run["orders"].assert_failed("log of build")
    run["land"].assert_success()
    run["orders.test"].assert_skipped()
    assert run.with_state("upstream_failed") == {"publish[0]"}


def test_each_state_that_is_not_as_expected_is_told_with_its_reason(run):
    with pytest.raises(AssertionError) as failure:
        run.assert_states({"orders": "success", "land": "success", "customers": "skipped"})
    told = f"orders: expected success, is failed: {RELATION}\ncustomers: expected skipped, is failed"
    assert str(failure.value) == told


def test_a_task_that_failed_otherwise_says_how(run):
    with pytest.raises(
        AssertionError, match=r"failed without saying 'timeout': failed: Database Error[\s\S]*the log of"
    ):
        run["orders"].assert_failed("timeout")
    with pytest.raises(AssertionError, match="land: expected failed, is success"):
        run["land"].assert_failed()


def test_a_run_that_was_to_succeed_says_what_failed(run):
    with pytest.raises(
        AssertionError, match=r"the run is failed\n[\s\S]*build\.orders: failed: Database Error"
    ):
        run.assert_success()


def test_the_output_of_dag_test_is_told_apart_by_tasks():
    output = """parsed
[info] [DAG TEST] starting task_id=build.orders map_index=-1 [dag.py]
waits
[info] [DAG TEST] starting task_id=load map_index=1 [dag.py]
loads
[info] [DAG TEST] starting task_id=build.orders map_index=-1 [dag.py]
done
"""
    logs = logs_of(output)
    assert set(logs) == {"build.orders", "load[1]"}
    assert "waits\n" in logs["build.orders"]
    assert logs["build.orders"].endswith("done\n")
    assert "loads" not in logs["build.orders"]
