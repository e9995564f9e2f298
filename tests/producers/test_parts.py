"""What the task that runs dbt for a part of a project does after what came before it, and after its own earlier attempts."""

import asyncio
import json
import sys
import uuid
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom, SetXCom, TaskStatesResult, XComResult
from airflow.sdk.execution_time.context import set_current_context
from dbt_words import BEGINNING, said

from dbt_watch.airflow.compat import AirflowFailException, AirflowSkipException
from dbt_watch.airflow.execution import executing
from dbt_watch.core.command import Selection
from dbt_watch.core.journal.reader import JournalReader, read_now
from dbt_watch.core.part import Part, Upstream
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import ArgumentError, DbtRunFailed
from dbt_watch.local.localkube import Image, LocalKube, Mount
from dbt_watch.producers.pods.operator import producer_class

RAW_ORDERS, RAW_CUSTOMERS = "seed.jaffle_shop.raw_orders", "seed.jaffle_shop.raw_customers"
STG_ORDERS, STG_PAYMENTS = "model.jaffle_shop.stg_orders", "model.jaffle_shop.stg_payments"
ORDERS = "model.jaffle_shop.orders"
BEHIND_RAW_ORDERS = Upstream("shop.raw_orders", RAW_ORDERS, (STG_ORDERS,))
BEHIND_STG_ORDERS = Upstream("shop.stg_orders", STG_ORDERS, (ORDERS,))
BEHIND_FIT = Upstream("fit", None, (ORDERS,))

# Stands for dbt: it leaves word of what it was asked for, and says what a test wants it to.
SCRIPT = """
import json, sys
open("/asked/{run_id}", "w").write(json.dumps(sys.argv[1:]))
print({log!r})
raise SystemExit({exit_code})
"""


class Store(dict):
    """Airflow's store of a task's state."""

    set = dict.__setitem__


class Shop:
    """The tasks that run dbt for parts of the example project, on a cluster of processes and without a whole Airflow."""

    def __init__(self, graph, kubeconfig, directory):
        self.graph, self.kubeconfig = graph, kubeconfig
        self.run_id = f"run-{uuid.uuid4()}"
        self.asked_in = directory / self.run_id
        self.states, self.returned = {}, {}
        self.store = Store()
        self.pages = {}

    def send(self, message):
        """Answer as the supervisor of a task does."""
        if isinstance(message, GetTaskStates):
            states = {task_id: self.states.get(task_id) for task_id in message.task_ids}
            return TaskStatesResult(task_states={self.run_id: states})
        if isinstance(message, SetXCom):
            self.pages[message.key] = message.value
            return None
        assert isinstance(message, GetXCom)
        is_own = message.task_id == "dbt_build"
        value = self.pages.get(message.key) if is_own else self.returned.get(message.task_id)
        return XComResult(key=message.key, value=value)

    async def asend(self, message):
        """Do so in a triggerer."""
        return self.send(message)

    def end(self, task_id, state, *results):
        """Let a task before the part have ended."""
        self.states[task_id] = state
        if results:
            self.returned[task_id] = results[0].to_dict()

    def operator(self, script, **arguments):
        """Return what runs dbt; a program in Python stands for dbt."""
        return producer_class()(
            task_id="dbt_build", name="shop", image="python:3", cmds=["python", "-c", script], namespace="default",
            build={}, selection=Selection(), graph=self.graph, selected=select_nodes(self.graph),
            kubernetes_conn_id=None, config_file=str(self.kubeconfig), startup_check_interval_seconds=0.1,
            poll_interval=0.1, **arguments,
        )  # fmt: skip

    def context(self, number, tries, retries=None):
        """Return the context of an attempt: of a retry, unless there are more tries than retries allow."""
        ti = SimpleNamespace(
            id=uuid.uuid4(), dag_id="shop", task_id="dbt_build", run_id=self.run_id, map_index=-1, try_number=number,
            max_tries=tries, start_date=datetime.now(timezone.utc),
            task=SimpleNamespace(retries=tries if retries is None else retries), get_ti_count=lambda **_: 0,
            xcom_push=lambda key, value, **_: self.pages.__setitem__(key, value),
        )  # fmt: skip
        return {
            "ti": ti, "task_instance": ti, "run_id": self.run_id, "task_state_store": self.store,
            "dag": SimpleNamespace(dag_id="shop", parent_dag=None),
            "dag_run": SimpleNamespace(run_id=self.run_id, logical_date=None),
        }  # fmt: skip

    def attempt(
        self,
        part,
        *,
        watched,
        says=(),
        exit_code=0,
        number=1,
        tries=0,
        retries=None,
        deferrable=False,
        **more,
    ):
        """Run an attempt, deferred or not; return what it returns."""
        self.pages.clear()
        self.asked_in.unlink(missing_ok=True)
        log = "\n".join([BEGINNING, *(said(unique_id, status) for unique_id, status in dict(says).items())])
        script = SCRIPT.format(run_id=self.run_id, log=log, exit_code=exit_code)

        def operator():
            operator = self.operator(script, watched=watched, deferrable=deferrable)
            for name, value in {"part": part, **more}.items():
                setattr(operator, name, value)
            return operator

        context = self.context(number, tries, retries)
        with set_current_context(context), executing(producer := operator()):
            try:
                return producer.execute(context)
            except TaskDeferred as deferral:
                trigger = deferral.trigger
        # In a triggerer there is no operator.
        trigger.task_instance = SimpleNamespace(**{**vars(context["ti"]), "task": None})
        event = asyncio.run(trigger._event())
        return operator().trigger_reentry(context, event)

    def left_behind(self):
        """Let the first attempt have left a pod in which dbt runs; return its name."""
        operator = self.operator("import time; time.sleep(600)", watched={})
        pod = operator.build_pod_request_obj(self.context(1, 0))
        operator.client.create_namespaced_pod(pod.metadata.namespace, pod)
        return pod.metadata.name

    @property
    def pods(self):
        """The names of the pods of this run that are there."""
        found = self.operator("", watched={}).client.list_namespaced_pod("default")
        return [pod.metadata.name for pod in found.items if pod.metadata.labels["run_id"] == self.run_id]

    @property
    def arguments(self):
        """What dbt was called with."""
        return json.loads(self.asked_in.read_text())

    @property
    def asked(self):
        """The nodes that dbt was asked for; None when it did not run."""
        if not self.asked_in.exists():
            return None
        words = self.arguments[self.arguments.index("--select") + 1 :]
        count = next(number for number, word in enumerate(words) if word.startswith("--"))
        return select_nodes(self.graph, select=words[:count], indirect_selection="empty")

    @property
    def journal(self):
        reader = JournalReader()
        read_now(reader, self.pages.get)
        return reader

    @property
    def entries(self):
        """What the journal tells of each node: its status, and why it was not run."""
        entries = self.journal.state.entries
        return {key: entry.not_run or entry.status for key, entry in entries.items()}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """What pods and tests have in common."""
    return tmp_path_factory.mktemp("asked")


@pytest.fixture(scope="module")
def kube(directory):
    image = Image(venv=sys.prefix, mounts={"/asked": Mount(directory, shared=True)})
    with LocalKube(images={"python:3": image}) as kube:
        yield kube


@pytest.fixture
def shop(kube, graph, monkeypatch, directory):
    shop = Shop(graph, kube.kubeconfig, directory)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", shop, raising=False)
    return shop


@pytest.fixture
def tests_of_orders(graph):
    return tuple(
        key
        for key in graph.child_map[ORDERS]
        if graph.nodes[key].resource_type == "test" and graph.parents(key) == (ORDERS,)
    )


@pytest.fixture
def alone(shop, tests_of_orders):
    """Run an attempt of the orders, which are isolated."""

    def attempt(*upstreams, **more):
        part = Part(frozenset({ORDERS, *tests_of_orders}), (ORDERS,), upstreams)
        watched = {"dbt_build": (ORDERS,), "shop.orders.test": tests_of_orders}
        return shop.attempt(part, watched=watched, **more)

    return attempt


@pytest.fixture
def later(shop):
    """Run an attempt of a producer that stands behind the raw orders."""

    def attempt(*nodes, **more):
        watched = {f"shop.{node.rpartition('.')[2]}": (node,) for node in nodes}
        part = Part(frozenset(nodes), (), (BEHIND_RAW_ORDERS,))
        return shop.attempt(part, **{"watched": watched, **more})

    return attempt


def failed(unique_id):
    return NodeResult(unique_id=unique_id, status="error")


# What came before.


def test_an_isolated_node_behind_a_failed_one_gets_no_pod_and_no_other_attempt(shop, alone, tests_of_orders):
    shop.end("shop.stg_orders", "failed", failed(STG_ORDERS))
    count = 1 + len(tests_of_orders)
    reason = f"{count} nodes were not built: upstream `stg_orders` failed"
    with pytest.raises(AirflowFailException, match=f"^{reason}$"):
        alone(BEHIND_STG_ORDERS, tries=2)
    assert shop.asked is None
    assert shop.entries == dict.fromkeys({ORDERS, *tests_of_orders}, "skipped")
    assert (shop.journal.state.closed.exit_code, shop.journal.state.closed.reason) == (1, reason)
    assert not shop.journal.page.will_retry
    assert shop.pages["return_value"]["skipped_because"] == [STG_ORDERS]


def test_an_isolated_node_behind_a_task_that_was_skipped_is_skipped_and_gets_no_pod(shop, alone):
    shop.end("fit", "skipped")
    with pytest.raises(AirflowSkipException, match=r"^orders: not built: task `fit` was skipped$"):
        alone(BEHIND_FIT)
    assert shop.asked is None
    assert shop.journal.state.closed.exit_code == 0


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
def test_a_later_producer_builds_what_a_failure_does_not_hold_back_and_then_fails_for_good(
    shop, later, deferrable
):
    shop.end("shop.raw_orders", "failed", failed(RAW_ORDERS))
    with pytest.raises(AirflowFailException, match=r"^1 node was not built: upstream `raw_orders` failed$"):
        later(STG_ORDERS, STG_PAYMENTS, says={STG_PAYMENTS: "success"}, tries=2, deferrable=deferrable)
    assert shop.asked == {STG_PAYMENTS}
    assert shop.entries == {STG_ORDERS: "skipped", STG_PAYMENTS: "success"}
    assert not shop.journal.page.will_retry


def test_a_later_producer_in_which_dbt_itself_fails_is_tried_again(shop, later):
    shop.end("shop.raw_orders", "failed", failed(RAW_ORDERS))
    with pytest.raises(DbtRunFailed, match="failed: stg_payments"):
        later(STG_ORDERS, STG_PAYMENTS, says={STG_PAYMENTS: "error"}, exit_code=1, tries=2)
    assert shop.journal.page.will_retry


def test_a_later_producer_of_which_nothing_is_left_gets_no_pod(shop, later):
    shop.end("shop.raw_orders", "failed", failed(RAW_ORDERS))
    with pytest.raises(AirflowFailException, match=r"^1 node was not built: upstream `raw_orders` failed$"):
        later(STG_ORDERS)
    assert shop.asked is None
    assert shop.entries == {STG_ORDERS: "skipped"}


def test_what_was_only_skipped_before_a_later_producer_is_no_failure_of_it(shop, later):
    shop.end("shop.raw_orders", "skipped")
    later(STG_ORDERS, STG_PAYMENTS, says={STG_PAYMENTS: "success"})
    assert shop.asked == {STG_PAYMENTS}
    assert shop.entries == {STG_ORDERS: NotRun.UPSTREAM_SKIPPED, STG_PAYMENTS: "success"}


def test_what_ended_well_before_a_later_producer_holds_nothing_back(shop, later):
    shop.end("shop.raw_orders", "success")
    later(STG_ORDERS, STG_PAYMENTS, says={STG_ORDERS: "success", STG_PAYMENTS: "success"})
    assert shop.asked == {STG_ORDERS, STG_PAYMENTS}
    assert shop.journal.state.closed.exit_code == 0


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
def test_a_run_that_is_narrowed_leaves_out_nodes_of_each_part_and_each_tells_of_its_own(
    shop, later, deferrable
):
    shop.end("shop.raw_orders", "success")
    narrow = {"select": "stg_payments orders"}
    later(STG_ORDERS, STG_PAYMENTS, says={STG_PAYMENTS: "success"}, build=narrow, deferrable=deferrable)
    assert shop.asked == {STG_PAYMENTS}
    assert shop.entries == {STG_ORDERS: NotRun.LEFT_OUT, STG_PAYMENTS: "success"}


def test_an_isolated_node_that_a_run_leaves_out_is_skipped_and_gets_no_pod(shop, alone):
    with pytest.raises(AirflowSkipException, match="left out of this run by --select stg_payments"):
        alone(build={"select": "stg_payments"})
    assert shop.asked is None


def test_a_node_that_a_run_leaves_out_fails_for_no_task_before_it(shop, alone):
    shop.end("shop.stg_orders", "failed", failed(STG_ORDERS))
    with pytest.raises(AirflowSkipException, match="left out of this run by --select stg_payments"):
        alone(BEHIND_STG_ORDERS, build={"select": "stg_payments"})


def test_a_part_of_which_no_task_shows_anything_gets_no_pod(shop, later):
    shop.end("shop.raw_orders", "success")
    later(STG_PAYMENTS, watched={})
    assert shop.asked is None


@pytest.mark.parametrize(
    ("state", "error"), [("failed", AirflowFailException), ("skipped", AirflowSkipException)]
)
def test_without_a_value_that_dbt_is_called_with_dbt_does_not_run(shop, alone, state, error):
    shop.end("land", state)
    with pytest.raises(error, match="dbt was not started: land"):
        alone(needs=frozenset({"land"}))
    assert shop.asked is None
    if state == "failed":
        assert "dbt was not started: land failed" in shop.journal.state.closed.reason


def test_a_project_that_would_be_split_in_another_way_by_now_is_not_built(shop, alone):
    def refuse():
        raise ArgumentError("dependency", "fit >> orders", "an edge that is drawn earlier")

    with pytest.raises(ArgumentError):
        alone(check=refuse)
    assert shop.asked is None
    assert "fit >> orders" in shop.journal.state.closed.reason


# Its own earlier attempts.


@pytest.mark.parametrize("tries", [1, 0], ids=["after a clear", "as a retry"])
def test_a_pod_that_a_dead_worker_has_left_is_stopped_also_where_nothing_is_built_any_more(
    shop, later, tries
):
    left = shop.left_behind()
    assert shop.pods == [left]
    shop.end("shop.raw_orders", "failed", failed(RAW_ORDERS))
    with pytest.raises(AirflowFailException, match="upstream `raw_orders` failed"):
        later(STG_ORDERS, number=2, tries=tries, retries=0)
    assert shop.pods == []


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
def test_the_next_attempt_of_an_isolated_node_runs_the_test_that_failed_alone(
    shop, alone, tests_of_orders, deferrable
):
    tests = dict.fromkeys(tests_of_orders, "fail")
    with pytest.raises(DbtRunFailed):
        alone(says={ORDERS: "success", **tests}, exit_code=1, tries=1, deferrable=deferrable)
    assert shop.asked == {ORDERS, *tests_of_orders}
    assert "return_value" not in shop.pages
    shop.states = {"dbt_build": "running", "shop.orders.test": "deferred"}
    passed = dict.fromkeys(tests_of_orders, "pass")
    value = alone(says=passed, number=2, tries=1, deferrable=deferrable)
    assert shop.asked == {*tests_of_orders}
    assert NodeResult.from_dict(value) == shop.journal.state.entries[ORDERS]
    assert NodeResult.from_dict(value).attempt == 1
    assert shop.entries == {ORDERS: "success", **passed}


def test_where_airflow_keeps_nothing_of_an_attempt_the_node_is_built_again_too(shop, alone, tests_of_orders):
    shop.store = None
    words = {ORDERS: "success", **dict.fromkeys(tests_of_orders, "fail")}
    with pytest.raises(DbtRunFailed):
        alone(says=words, exit_code=1, tries=1)
    shop.states = {"dbt_build": "running", "shop.orders.test": "deferred"}
    words.update(dict.fromkeys(tests_of_orders, "pass"))
    assert alone(says=words, number=2, tries=1)["attempt"] == 2
    assert shop.asked == {ORDERS, *tests_of_orders}


def test_the_last_attempt_of_an_isolated_node_leaves_a_failed_test_to_its_own_task(
    shop, alone, tests_of_orders
):
    words = {ORDERS: "success", **dict.fromkeys(tests_of_orders, "fail")}
    assert alone(says=words, exit_code=1)["status"] == "success"
    assert shop.journal.state.closed.exit_code == 1


def test_the_next_attempt_of_a_later_producer_builds_what_is_neither_done_nor_held_back(shop, later):
    shop.end("shop.raw_orders", "failed", failed(RAW_ORDERS))
    shop.states["shop.stg_payments"] = "success"
    with pytest.raises(AirflowFailException, match=r"^1 node was not built: upstream `raw_orders` failed$"):
        later(STG_ORDERS, STG_PAYMENTS, RAW_CUSTOMERS, says={RAW_CUSTOMERS: "success"}, number=2, tries=2)
    assert shop.asked == {RAW_CUSTOMERS}
    assert shop.entries == {STG_ORDERS: "skipped", RAW_CUSTOMERS: "success"}


def test_an_isolated_node_that_is_cleared_alone_is_built_alone(shop, alone):
    shop.states = {"dbt_build": "running", "shop.orders.test": "success"}
    assert alone(says={ORDERS: "success"}, number=2, tries=1, retries=0)["status"] == "success"
    assert shop.asked == {ORDERS}


def test_an_isolated_node_is_not_built_beneath_a_failed_test_that_was_not_cleared_with_it(shop, alone):
    shop.states = {"dbt_build": "running", "shop.orders.test": "failed"}
    with pytest.raises(
        AirflowFailException, match=r"1 tasks \(shop.orders.test\) have failed and were not cleared"
    ):
        alone(says={ORDERS: "success"}, number=2, tries=1, retries=0)
    assert shop.asked is None


def test_a_later_producer_whose_worker_died_after_dbt_had_ended_well_has_nothing_to_do(shop, later):
    shop.end("shop.raw_orders", "success")
    later(STG_PAYMENTS, says={STG_PAYMENTS: "success"}, tries=1)
    assert shop.asked == {STG_PAYMENTS}
    shop.states["shop.stg_payments"] = "success"
    later(STG_PAYMENTS, number=2, tries=1)
    assert shop.asked is None
    assert shop.journal.state.closed.exit_code == 0


def test_a_retry_calls_dbt_with_the_options_of_the_first_attempt_and_a_clear_with_those_of_now(shop, later):
    shop.end("shop.raw_orders", "success")
    with pytest.raises(DbtRunFailed):
        later(STG_PAYMENTS, says={STG_PAYMENTS: "error"}, exit_code=1, tries=1, build={"threads": "3"})
    for number, tries, threads in ((2, 1, "3"), (3, 3, "5")):
        later(
            STG_PAYMENTS,
            says={STG_PAYMENTS: "success"},
            number=number,
            tries=tries,
            retries=1,
            build={"threads": "5"},
        )
        assert shop.arguments[shop.arguments.index("--threads") + 1] == threads


SHOWS_SOMETHING_ELSE = r"dbt succeeded, but 1 tasks \({}\) had already ended in a state that no longer matches. Clear them together with dbt_build"


def test_a_producer_is_not_green_over_a_task_that_shows_something_else(shop, later):
    shop.states = {"shop.raw_orders": "success", "shop.stg_orders": "failed"}
    with pytest.raises(AirflowFailException, match=SHOWS_SOMETHING_ELSE.format("shop.stg_orders")):
        later(STG_ORDERS, says={STG_ORDERS: "success"}, number=2, tries=2)


def test_nor_is_the_task_of_an_isolated_node_over_one_of_its_tests(shop, alone, tests_of_orders):
    shop.states = {"dbt_build": "running", "shop.orders.test": "failed"}
    words = {ORDERS: "success", **dict.fromkeys(tests_of_orders, "pass")}
    with pytest.raises(AirflowFailException, match=SHOWS_SOMETHING_ELSE.format("shop.orders.test")):
        alone(says=words, number=2, tries=2)


def test_a_task_that_had_failed_as_dbt_has_now_is_shown_rightly(shop, alone, tests_of_orders):
    shop.states = {"dbt_build": "running", "shop.orders.test": "failed"}
    words = {ORDERS: "success", **dict.fromkeys(tests_of_orders, "fail")}
    assert alone(says=words, exit_code=1, number=2, tries=1)["status"] == "success"


def test_the_first_attempt_does_not_ask_what_its_tasks_show(shop, later):
    shop.states = {"shop.raw_orders": "success", "shop.stg_orders": "failed"}
    later(STG_ORDERS, says={STG_ORDERS: "success"}, tries=2)
