"""
What is private to Airflow and its provider, and used nevertheless: it is there in the versions that are installed.

The table in the docstring of `dbt_watch.airflow` names these tests. What a name does, the tests of those who use it show.
"""

import ast
import importlib
import inspect
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from airflow.sdk import BaseOperator

from dbt_watch import airflow
from dbt_watch.airflow.execution import executing
from dbt_watch.airflow.pod_operator import FollowingPodManager, PodOperatorMixin
from dbt_watch.airflow.pod_trigger import StockPodTrigger
from dbt_watch.core.command import Selection
from dbt_watch.producers.api.operator import DbtApiOperator
from dbt_watch.producers.api.trigger import DbtApiTrigger
from dbt_watch.producers.dbt_task import DbtTaskMixin
from dbt_watch.producers.dbt_trigger import DbtTrigger
from dbt_watch.producers.pods.operator import DbtPodMixin, producer_class
from dbt_watch.producers.pods.pod_manager import WatchingPodManager
from dbt_watch.producers.pods.trigger import DbtPodTrigger
from dbt_watch.sensors.operator import DbtNodeSensor
from dbt_watch.sensors.trigger import NodeTrigger

TRIGGER = {
    "pod_name": "dbt",
    "pod_namespace": "default",
    "trigger_start_time": None,
    "base_container_name": "base",
}


@pytest.fixture
def operator(graph):
    return producer_class()(
        task_id="dbt_build",
        name="Shop_1",
        image="shop:1",
        build={},
        selection=Selection(),
        graph=graph,
        selected=frozenset(graph.nodes),
        watched={},
    )


@pytest.mark.parametrize(
    "name",
    [
        "_build_find_pod_label_selector",
        "_set_name",
        "_write_logs",
        "build_pod_request_obj",
        "cleanup",
        "client",
        "get_or_create_pod",
        "is_istio_enabled",
        "patch_already_checked",
        "pod_manager",
        "process_pod_deletion",
        "trigger_reentry",
        "POD_CHECKED_KEY",
    ],
)
def test_the_operator_has_what_is_called_or_overridden(name):
    assert hasattr(KubernetesPodOperator, name)


@pytest.mark.parametrize(
    "name", ["_killed", "arguments", "callbacks", "deferrable", "name", "pod", "pod_request_obj"]
)
def test_an_operator_has_what_is_set_on_it(operator, name):
    assert name in vars(operator)


def test_the_operator_itself_calls_what_is_overridden():
    calls = inspect.getsource(KubernetesPodOperator)
    for name in ("is_istio_enabled", "_write_logs", "get_or_create_pod", "cleanup", "defer"):
        assert f"self.{name}(" in calls
    assert "if self.pod_request_obj is None" in calls
    assert "if self.pod is None" in calls
    assert "if self._killed or not remote_pod" in calls


def test_the_pod_manager_is_called_by_the_names_that_are_overridden():
    calls = inspect.getsource(KubernetesPodOperator) + inspect.getsource(PodManager)
    for name in ("fetch_requested_container_logs", "fetch_container_logs", "read_pod", "run_pod_async"):
        assert f".{name}(" in calls
        assert name in vars(PodManager)
    assert (
        FollowingPodManager(SimpleNamespace(client="api", callbacks=[], base_container_name="base")).api
        == "api"
    )


@pytest.mark.parametrize("status", ["success", "failed", "error", "timeout"])
def test_the_operator_goes_on_with_what_its_own_trigger_ends_with(status):
    assert f'"{status}"' in inspect.getsource(KubernetesPodTrigger).replace("'", '"')
    path = f"{KubernetesPodTrigger.__module__}.{KubernetesPodTrigger.__qualname__}"
    stock = StockPodTrigger(path, {**TRIGGER, "trigger_kwargs": {"more": 1}})
    assert stock.make_event(status, "why") == {
        "status": status, "name": "dbt", "namespace": "default", "message": "why", "more": 1
    }  # fmt: skip
    assert (stock.pod, stock.container, stock.deletes_when_killed) == (("dbt", "default"), "base", True)


def test_a_pod_that_is_put_aside_is_marked_and_then_deleted_as_the_operator_does(operator, monkeypatch):
    done = []
    for name in ("patch_already_checked", "process_pod_deletion"):
        monkeypatch.setattr(
            KubernetesPodOperator,
            name,
            lambda _, pod, *, reraise, name=name: done.append((name, pod, reraise)),
        )
    operator.put_aside("pod")
    assert done == [("patch_already_checked", "pod", False), ("process_pod_deletion", "pod", False)]


def test_a_pod_is_killed_once_and_not_after_it_was_left(operator, monkeypatch):
    killed = []
    monkeypatch.setattr(KubernetesPodOperator, "on_kill", lambda self: (killed.append(1), self.leave_pod()))
    assert not operator.has_left_pod
    operator.kill_pod()
    operator.kill_pod()
    assert (killed, operator.has_left_pod) == ([1], True)


def test_a_pod_is_asked_for_under_the_name_that_the_operator_would_give_it(operator, monkeypatch):
    monkeypatch.setattr(operator, "build_pod_request_obj", lambda _: operator.name)
    assert operator.request_pod({}) == "shop-1"


def test_another_operator_may_be_executed_inside_of_a_task_where_that_is_said():
    class Inner(BaseOperator):
        def execute(self, context):
            return "done"

    inner = Inner(task_id="inner", allow_nested_operators=False)
    with pytest.raises(Exception, match="cannot be called outside"):
        inner.execute({})
    with executing(inner):
        assert inner.execute({}) == "done"


@pytest.mark.parametrize(
    "ours",
    [
        DbtTaskMixin,
        DbtPodMixin,
        PodOperatorMixin,
        DbtNodeSensor,
        NodeTrigger,
        DbtTrigger,
        DbtPodTrigger,
        DbtApiOperator,
        DbtApiTrigger,
        WatchingPodManager,
    ],
)
def test_no_private_name_of_ours_is_one_of_theirs_by_chance(ours, operator):
    room = {PodOperatorMixin: {"_killed", "_set_name", "_write_logs", "_build_find_pod_label_selector"}}
    bases = type(operator).__mro__ if issubclass(ours, DbtTaskMixin | PodOperatorMixin) else ours.__mro__
    theirs = {
        name for base in bases if base.__module__.startswith("airflow.") for name in _private_names(base)
    }
    assert not (_private_names(ours) & theirs) - room.get(ours, set())


def _private_names(cls):
    """Return the names with one underscore that a class defines, or uses of itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    used = {
        node.attr for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }  # fmt: skip
    names = {name for name in used | set(vars(cls)) if name.startswith("_") and not name.startswith("__")}
    # What Python and Airflow keep with a class, under names that nobody else can have by chance.
    return {name for name in names if name != "_abc_impl" and not name.startswith("_BaseOperator__")}


ROOT = Path(__file__).parents[2]


def _table():
    return [line for line in inspect.getdoc(airflow).splitlines() if line.startswith("|")]


def test_the_page_has_the_table_of_the_code():
    page = (ROOT / "docs/architecture.md").read_text()
    assert "\n".join(_table()) in page


@pytest.mark.parametrize("line", _table()[2:])
def test_the_table_names_modules_and_tests_that_there_are(line):
    module, *_, shown_by = (cell.strip() for cell in line.strip("| ").split(" | "))
    assert importlib.import_module(f"dbt_watch.airflow.{module.strip('`')}")
    for test in shown_by.split(", "):
        assert (ROOT / "tests" / test.strip("`")).is_file()
