"""The task that has a server run dbt, without a whole Airflow: what it posts, takes over, aborts, and how it ends."""

import asyncio
import json
import threading
import time
import uuid
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred
from airflow.sdk import Connection
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetXCom, TaskStatesResult, XComResult
from api_pace import hurry, soon_given_up
from api_server import StandInServer, says, takes_and_hangs_up
from dbt_words import BEGINNING, said
from virtual_time import run as run_virtually

from dbt_watch.airflow.execution import executing
from dbt_watch.core.command import Selection
from dbt_watch.core.journal.reader import JournalReader, read_now
from dbt_watch.exceptions import (
    DbtRunFailed,
    DbtWatchError,
    InvocationLost,
    ProjectIsBusy,
    ServerError,
)
from dbt_watch.producers import dbt_trigger
from dbt_watch.producers.api import client as http
from dbt_watch.producers.api.invocation_ids import marks_of, task_mark
from dbt_watch.producers.api.operator import DbtApiOperator
from dbt_watch.producers.api.trigger import DbtApiTrigger
from dbt_watch.producers.single_node import LoneBuild

SEED, STAGED, ORDERS = NODES = (
    "seed.jaffle_shop.raw_orders", "model.jaffle_shop.stg_orders", "model.jaffle_shop.orders",
)  # fmt: skip
SENSORS = {f"shop.{node.rpartition('.')[2]}": (node,) for node in NODES}
PRODUCER = "shop.dbt_build"
STAGED_MARK = task_mark("shop.stg_orders")
SUMMARY = json.dumps(
    {
        "info": {
            "name": "EndOfRunSummary",
            "ts": "2026-01-01T00:00:02.000000Z",
            "level": "info",
            "invocation_id": "i",
        },
        "data": {},
    }
)
BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)


class StateStore(dict):
    """Airflow's store of a task's state."""

    set = dict.__setitem__


class Shop:
    """A producer of three nodes, its Airflow, and its server."""

    def __init__(self, server, graph):
        self.server = server
        self.graph = graph
        self.states = dict.fromkeys((*SENSORS, PRODUCER))
        self.pages = {}
        self.stores = {}
        self.arguments = {}

    # Airflow.

    def send(self, message):
        if isinstance(message, GetXCom):
            return XComResult(key=message.key, value=self.pages.get(message.key))
        return TaskStatesResult(
            task_states={"run": {task: self.states.get(task) for task in message.task_ids}}
        )

    async def push(self, key, value):
        self.pages[key] = value

    async def read_back(self):
        reader = JournalReader()
        read_now(reader, self.pages.get)
        return reader

    def statuses(self):
        reader = JournalReader()
        read_now(reader, self.pages.get)
        return {unique_id: entry.status for unique_id, entry in reader.state.entries.items()}

    def context(self, attempt=1, retries=1, max_tries=None, task_id=PRODUCER):
        ti = SimpleNamespace(
            id=uuid.uuid4(),
            dag_id="shop",
            task_id=task_id,
            run_id="run",
            try_number=attempt,
            max_tries=retries if max_tries is None else max_tries,
            map_index=-1,
            start_date=datetime.now(timezone.utc),
            task=SimpleNamespace(retries=retries),
            get_ti_count=lambda **_: 0,
            xcom_push=lambda key, value, **_: self.pages.__setitem__(key, value),
        )
        store = self.stores.setdefault(task_id, StateStore())
        return {"ti": ti, "dag_run": SimpleNamespace(start_date=BEGAN), "task_state_store": store}

    # The task.

    def operator(self, **arguments):
        return DbtApiOperator(
            task_id=PRODUCER,
            build={"vars": {"day": "monday"}, "target": "prod"},
            selection=Selection(select=("raw_orders+",)),
            graph=self.graph,
            selected=frozenset(NODES),
            watched=SENSORS,
            project_dir="jaffle_shop",
            **{**self.arguments, **arguments},
        )

    def run(self, operator=None, **which):
        self.pages.clear()
        made = operator or self.operator()
        self.last = made
        with executing(made):
            return made.execute(self.context(**which))

    def lone(self, node=ORDERS):
        """Build a node alone, as its sensor would."""
        task_id = f"shop.{node.rpartition('.')[2]}"
        build = LoneBuild(self.operator(), [node])
        build._operator.render_template_fields = lambda context: None
        return build.run(self.context(task_id=task_id, retries=0, max_tries=1, attempt=2))

    # The server.

    def builds(self, **statuses):
        """Have each invocation end at once, with these nodes as they are given."""

        def build(invocation):
            self.tell(invocation, **statuses)
            bad = any(status == "error" for status in statuses.values())
            invocation.update(state="FAILURE", exit_code=1) if bad else invocation.update(
                state="SUCCESS", exit_code=0
            )

        self.server.on_post = build

    def tell(self, invocation, **statuses):
        by_name = {node.rpartition(".")[2]: node for node in NODES}
        lines = [BEGINNING, *(said(by_name[name], status) for name, status in statuses.items()), SUMMARY]
        invocation["log"] = "".join(f"{line}\n" for line in lines)

    @property
    def posts(self):
        return [
            body
            for method, path, _, body in self.server.requests
            if (method, path) == ("POST", "/invocations")
        ]


ALL = {"raw_orders": "success", "stg_orders": "success", "orders": "success"}


@pytest.fixture(params=["own"])
def shop(request, graph, monkeypatch, caplog):
    hurry(monkeypatch)
    caplog.set_level("INFO")
    with StandInServer(request.param) as server:
        shop = Shop(server, graph)
        connection = Connection(conn_id="dbt_api", conn_type="http", host=server.url)
        monkeypatch.setattr(http.BaseHook, "get_connection", classmethod(lambda *_: connection))

        async def aget(*_):
            return connection

        monkeypatch.setattr(http.BaseHook, "aget_connection", classmethod(aget))
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", shop, raising=False)
        monkeypatch.setattr(dbt_trigger, "JournalStore", lambda _: shop)
        yield shop


def test_a_first_attempt_posts_once_and_tells_what_becomes_of_each_node(shop):
    shop.builds(**ALL)
    shop.run()
    (posted,) = shop.posts
    assert posted["project_dir"] == "jaffle_shop"
    assert posted["command"] == [
        "--log-format", "json", "--log-level", "debug", "--no-use-colors", "build", "--target", "prod",
        "--vars", '{"day": "monday"}', "--select", "raw_orders+", "--indirect-selection", "eager",
    ]  # fmt: skip
    assert posted["task_id"].startswith("shop.shop.dbt_build@run~")
    assert shop.statuses() == dict.fromkeys(NODES, "success")


def test_a_node_that_fails_fails_the_task_with_what_dbt_said(shop):
    shop.builds(raw_orders="success", stg_orders="error", orders="skipped")
    with pytest.raises(DbtRunFailed, match=r"exit code 1: stg_orders: error with .*failed: stg_orders"):
        shop.run()
    assert shop.statuses()[STAGED] == "error"


def errors(capsys):
    """Return what was logged as an error."""
    lines = [line for line in capsys.readouterr().out.splitlines() if "[error " in line]
    return [line.partition("] ")[2].partition(" [airflow")[0].rstrip() for line in lines]


@pytest.mark.parametrize("is_deferred", [False, True])
def test_a_failure_begins_with_the_first_root_cause_and_what_it_kept_from_being_built(
    shop, capsys, is_deferred
):
    shop.builds(raw_orders="success", stg_orders="error", orders="skipped")
    if is_deferred:
        shop.server.on_post = lambda invocation: None
        trigger, method = deferred(shop)
        shop.tell(shop.server.only, raw_orders="success", stg_orders="error", orders="skipped")
        shop.server.only.update(state="FAILURE", exit_code=1)
        event = json.loads(json.dumps(asyncio.run(trigger._event())))
        assert errors(capsys) == []
        with pytest.raises(DbtRunFailed):
            getattr(shop.operator(), method)(shop.context(), event)
    else:
        with pytest.raises(DbtRunFailed):
            shop.run()
    assert errors(capsys) == [
        "model stg_orders: error: error with pa55-of-the-warehouse",
        "not built because of it: 1 node, orders",
    ]


def test_what_a_sensor_builds_alone_it_tells_of_itself(shop, capsys):
    shop.states[PRODUCER] = "success"
    shop.builds(orders="error")
    assert shop.lone()[1].exit_code == 1
    assert errors(capsys) == []


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"state": "ABORTED"}, "the invocation was aborted"),
        ({"state": "INTERNAL_ERROR", "exc_type": "WorkerLost", "exc_message": "the worker died"}, "WorkerLost: the worker died"),
    ],
)  # fmt: skip
def test_an_invocation_that_did_not_come_to_dbts_end_says_why(shop, end, words):
    shop.server.on_post = lambda invocation: invocation.update(end)
    with pytest.raises(InvocationLost, match=words):
        shop.run()
    assert set(shop.statuses().values()) == {"not run"}


def test_a_command_that_is_refused_fails_the_task_and_all_nodes_with_what_the_server_says(shop):
    shop.server.instead = [
        None,
        says(422, b'{"message": "expected the name of a project; did you mean jaffle?"}'),
    ]
    with pytest.raises(ServerError, match="did you mean jaffle"):
        shop.run()
    assert set(shop.statuses().values()) == {"not run"}


def test_a_server_that_takes_an_invocation_and_hangs_up_runs_it_once(shop):
    shop.builds(**ALL)
    shop.server.instead = [None, takes_and_hangs_up(shop.server)]
    shop.run()
    assert len(shop.posts) == len(shop.server.invocations) == 1


@pytest.mark.parametrize("shop", ["field"], indirect=True)
def test_a_server_in_the_field_is_followed_as_well(shop, caplog):
    shop.server.own_ids = True
    shop.server.lists = False
    shop.builds(**ALL)
    shop.run()
    assert shop.statuses() == dict.fromkeys(NODES, "success")
    assert "it alone must prevent dbt from running twice" in caplog.text


# Later attempts.


def posted_by(shop, **which):
    """Have an attempt post, as if its worker had died then."""
    shop.server.on_post = lambda invocation: None

    def killed():
        raise SystemExit("the worker was killed")

    operator = shop.operator()
    operator._follow = lambda *_: killed()
    with pytest.raises(SystemExit):
        shop.run(operator, **which)
    return list(shop.server.invocations.values())[-1]


@pytest.mark.parametrize("remembers", [True, False], ids=["3.3", "before"])
def test_an_invocation_that_still_runs_is_taken_over_by_the_next_attempt(shop, remembers):
    invocation = posted_by(shop)
    if not remembers:
        shop.stores.clear()
    shop.tell(invocation, **ALL)
    invocation.update(state="STARTED")
    threading.Timer(0.3, lambda: invocation.update(state="SUCCESS")).start()
    shop.run(attempt=2)
    assert len(shop.posts) == 1
    assert shop.statuses() == dict.fromkeys(NODES, "success")


def test_one_that_has_ended_well_meanwhile_is_read_and_no_other_is_posted(shop):
    invocation = posted_by(shop)
    shop.tell(invocation, **ALL)
    invocation.update(state="SUCCESS")
    shop.run(attempt=2)
    assert len(shop.posts) == 1
    assert shop.statuses() == dict.fromkeys(NODES, "success")


def test_of_one_that_has_ended_badly_meanwhile_the_rest_is_built(shop):
    invocation = posted_by(shop)
    shop.tell(invocation, raw_orders="success", stg_orders="error", orders="skipped")
    invocation.update(state="FAILURE", exit_code=1)
    shop.builds(stg_orders="success", orders="success")
    shop.run(attempt=2)
    assert len(shop.posts) == 2
    selected = " ".join(shop.posts[1]["command"])
    assert "stg_orders" in selected
    assert "raw_orders" not in selected
    assert shop.statuses() == dict.fromkeys(NODES, "success")


def test_a_retry_builds_what_has_no_green_sensor_and_reads_no_log_twice(shop):
    shop.builds(raw_orders="success", stg_orders="error", orders="skipped")
    with pytest.raises(DbtRunFailed):
        shop.run()
    shop.states |= {"shop.raw_orders": "success", "shop.stg_orders": "deferred", "shop.orders": "deferred"}
    shop.builds(stg_orders="success", orders="success")
    before = len(shop.server.requests)
    shop.run(attempt=2)
    first, second = shop.server.invocations
    assert (marks_of(first).attempt, marks_of(second).attempt) == (1, 2)
    assert not any(f"/{first}/log" in path for _, path, _, _ in shop.server.requests[before:])
    assert "raw_orders" not in " ".join(shop.posts[1]["command"])


@pytest.mark.parametrize("remembers", [True, False], ids=["3.3", "before"])
def test_after_a_clear_what_still_runs_is_aborted_and_waited_for(shop, remembers):
    invocation = posted_by(shop)
    if not remembers:
        shop.stores.clear()
    shop.builds(**ALL)
    shop.run(attempt=2, retries=1, max_tries=2)
    assert invocation["state"] == "ABORTED"
    assert len(shop.posts) == 2


@pytest.mark.parametrize("shop", ["field"], indirect=True)
def test_a_server_with_ids_of_its_own_and_no_list_is_asked_for_what_is_remembered(shop):
    shop.server.own_ids, shop.server.lists = True, False
    invocation = posted_by(shop)
    shop.tell(invocation, **ALL)
    threading.Timer(0.3, lambda: invocation.update(state="SUCCESS")).start()
    shop.run(attempt=2)
    assert len(shop.posts) == 1


def test_what_others_have_posted_is_left_alone(shop):
    shop.server.add("somebody-elses")
    shop.builds(**ALL)
    shop.run(attempt=2)
    assert shop.server.invocations["somebody-elses"]["state"] == "STARTED"


# One node alone.


def test_a_node_that_is_cleared_alone_is_built_alone(shop):
    shop.states[PRODUCER] = "success"
    shop.builds(orders="success")
    results, closed = shop.lone()
    assert ([result.unique_id for result in results], closed.exit_code) == ([ORDERS], 0)
    command = " ".join(shop.posts[0]["command"])
    assert "orders" in command
    assert "raw_orders+" not in command
    assert shop.posts[0]["task_id"].startswith("shop.shop.orders@run~")


def test_it_gives_way_to_a_producer_that_has_begun_meanwhile(shop):
    shop.states[PRODUCER] = "running"
    with pytest.raises(ProjectIsBusy, match=r"shop.dbt_build is running"):
        shop.lone()
    assert shop.server.only["state"] == "ABORTED"


def test_of_two_that_have_posted_at_once_the_second_gives_way(shop):
    shop.states |= {PRODUCER: "success", "shop.stg_orders": "running", "shop.orders": "running"}
    looked = []

    def post_another(invocation):
        if not looked:
            looked.append(invocation)
            other = marks_of(invocation["task_id"])
            mine, theirs = f"~{other.task}~", f"~{STAGED_MARK}~"
            shop.server.add(invocation["task_id"].replace(mine, theirs), created_at=time.time() - 1)

    shop.server.on_post = post_another
    with pytest.raises(ProjectIsBusy, match="dbt runs in the invocation"):
        shop.lone()


@pytest.mark.parametrize(("state", "is_aborted"), [("running", False), ("success", True)])
def test_a_producer_waits_for_what_a_sensor_builds_unless_the_sensor_has_ended(shop, state, is_aborted):
    shop.builds(**ALL)
    shop.run()
    (first,) = shop.server.invocations
    marks = marks_of(first)
    alone = shop.server.add(first.replace(f"~{marks.task}~", f"~{STAGED_MARK}~"))
    shop.states["shop.stg_orders"] = state

    def end():
        alone.update(state="SUCCESS")
        # Not between the look at the invocations and that at the task.
        time.sleep(2)
        shop.states["shop.stg_orders"] = "success"

    if not is_aborted:
        threading.Timer(0.5, end).start()
    shop.run(retries=1, max_tries=2, attempt=2)
    assert ("abort_requested" in alone) is is_aborted
    assert len(shop.posts) == 2


# Being stopped.


def test_a_task_that_is_killed_in_its_last_attempt_aborts_the_invocation(shop):
    operator = shop.operator()

    def stop_it(invocation):
        threading.Timer(0.2, operator.on_kill).start()

    shop.server.on_post = stop_it
    with pytest.raises(InvocationLost, match="the invocation was aborted"):
        shop.run(operator, retries=0)
    assert shop.server.only["abort_requested"]


@pytest.mark.parametrize(("state", "is_aborted"), [("failed", True), ("running", False)])
def test_a_task_that_is_asked_to_end_aborts_only_where_airflow_has_stopped_it(shop, state, is_aborted):
    operator = shop.operator()
    shop.states[PRODUCER] = state

    def ask_it(invocation):
        shop.tell(invocation, **ALL)
        threading.Thread(target=ask, args=(invocation,), daemon=True).start()

    def ask(invocation):
        operator.on_kill()
        deadline = time.monotonic() + 60
        while not is_aborted and not operator._attempt.signal.is_leaving:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if not is_aborted:
            invocation.update(state="SUCCESS")

    shop.server.on_post = ask_it
    if is_aborted:
        with pytest.raises(InvocationLost, match="the task was stopped; its state in Airflow is failed"):
            shop.run(operator)
    else:
        shop.run(operator)
    assert shop.server.only.get("abort_requested", False) is is_aborted


def test_an_execution_timeout_aborts(shop):
    operator = shop.operator()

    def late(*_):
        raise AirflowTaskTimeout

    operator._follow = late
    with pytest.raises(AirflowTaskTimeout):
        shop.run(operator)
    assert shop.server.only["state"] == "ABORTED"
    assert set(shop.statuses().values()) == {"not run"}


# Deferred.


def deferred(shop, **which):
    shop.arguments["deferrable"] = True
    with pytest.raises(TaskDeferred) as caught:
        shop.run(**which)
    trigger = caught.value.trigger
    path, arguments = trigger.serialize()
    assert path == f"{DbtApiTrigger.__module__}.DbtApiTrigger"
    again = DbtApiTrigger(**json.loads(json.dumps(arguments)))
    again.task_instance = SimpleNamespace(dag_id="shop", task_id=PRODUCER, run_id="run", map_index=-1)
    return again, caught.value.method_name


def test_a_deferred_one_is_followed_in_the_triggerer_and_ends_on_a_worker(shop):
    trigger, method = deferred(shop)
    invocation = shop.server.only
    shop.tell(invocation, **ALL)
    threading.Timer(0.3, lambda: invocation.update(state="SUCCESS")).start()
    event = asyncio.run(trigger._event())
    assert shop.statuses() == dict.fromkeys(NODES, "success")
    getattr(shop.operator(), method)(shop.context(), event)
    assert shop.stores[PRODUCER]["dbt_watch_invocation"]["is_read"]


def test_a_deferred_one_fails_with_what_failed(shop):
    trigger, method = deferred(shop)
    shop.tell(shop.server.only, raw_orders="success", stg_orders="error", orders="skipped")
    shop.server.only.update(state="FAILURE", exit_code=1)
    event = asyncio.run(trigger._event())
    with pytest.raises(DbtRunFailed, match="stg_orders"):
        getattr(shop.operator(), method)(shop.context(), event)


def test_a_deferred_one_that_takes_too_long_is_aborted(shop):
    trigger, method = deferred(shop)
    trigger.deadline = time.time() + 0.3
    event = asyncio.run(trigger._event())
    assert shop.server.only["state"] == "ABORTED"
    with pytest.raises(InvocationLost, match="longer than its execution_timeout"):
        getattr(shop.operator(), method)(shop.context(), event)


def test_a_deferred_one_whose_server_stays_away_fails_and_says_so(shop, monkeypatch):
    soon_given_up(monkeypatch, "CREDENTIALS_PATIENCE")
    trigger, method = deferred(shop)
    shop.server.instead = [says(403, b'{"message": "not for you"}')] * 1_000
    event = asyncio.run(trigger._event())
    with pytest.raises(InvocationLost, match="HTTP 403: not for you"):
        getattr(shop.operator(), method)(shop.context(), event)


@pytest.mark.parametrize(("state", "is_aborted"), [("failed", True), ("deferred", False)])
def test_a_trigger_that_is_told_of_a_kill_aborts_only_where_the_task_was_stopped(
    shop, monkeypatch, state, is_aborted
):
    trigger, _ = deferred(shop)

    async def read_state(_):
        return state

    monkeypatch.setattr(dbt_trigger, "read_state", read_state)
    asyncio.run(trigger.on_kill())
    assert (shop.server.only["state"] == "ABORTED") is is_aborted


def test_nothing_that_is_wrong_with_a_connection_hangs_a_trigger(shop, monkeypatch):
    trigger, method = deferred(shop)

    async def aget(*_):
        raise RuntimeError("no such connection")

    monkeypatch.setattr(http.BaseHook, "aget_connection", classmethod(aget))
    event = run_virtually(trigger._event())
    with pytest.raises(DbtWatchError, match="no such connection"):
        getattr(shop.operator(), method)(shop.context(), event)
