"""The watching process with a stand-in for Airflow's API: what it tells Airflow of sensors, when, and what it reports."""

import asyncio
import contextlib
import functools
import json

import httpx
import msgspec
import pytest
from scripted_api import RUN_ID, at, watch_of

from dbt_watch.airflow import execution_api
from dbt_watch.airflow.execution_api import ExecutionApi
from dbt_watch.airflow.task_instances import TaskKey
from dbt_watch.core.assets import TrackedAssets
from dbt_watch.executor import watcher as module
from dbt_watch.executor.messages import Begun, Ended, Failing, Gone, NeedsWorker, Told
from dbt_watch.executor.watcher import Watcher, WatcherPace
from dbt_watch.sensors import hub as hub_module
from dbt_watch.sensors.hub import Pace

ORDERS, CUSTOMERS = "model.shop.orders", "model.shop.customers"
PACE = WatcherPace(check=0.02, heartbeat=0.05, backoff_first=0.01, backoff_limit=0.02)
HUB_PACE = Pace(
    page=0.01, state=0.02, idle=0.02, about_to_run=0.02, gather=0.001, verify=0.01, first_page=0.01, turn=0.01, linger=0.2, backoff_first=0.01, backoff_limit=0.05
)  # fmt: skip


class Process:
    """The process, in this one."""

    def __init__(self, api, at_once=8):
        self.reports = []
        transport = httpx.MockTransport(api.answer)
        clients = [
            ExecutionApi("http://airflow/execution/", transport=transport, at_once=at_once) for _ in range(2)
        ]
        self.watcher = Watcher(*clients, self.reports.append, PACE)
        self.take = self.watcher.take

    async def until(self, condition):
        async def poll():
            while not condition():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)

        await asyncio.wait_for(poll(), 240)

    async def report(self, kind):
        """Wait for a report of a kind, and return it."""
        await self.until(lambda: any(isinstance(report, kind) for report in self.reports))
        return next(report for report in self.reports if isinstance(report, kind))


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(hub_module, "Hub", functools.partial(hub_module.Hub, pace=HUB_PACE))
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))


def scenario(function):
    """Run an asynchronous test with a process that watches."""

    @functools.wraps(function)
    def test(api, producer, tmp_path):
        async def run():
            process = Process(api)
            keeping = asyncio.create_task(process.watcher.keep_alive())
            try:
                await function(api, producer, process, tmp_path)
                assert not keeping.done()
            finally:
                keeping.cancel()
                hub_module._hubs.clear()

        asyncio.run(asyncio.wait_for(run(), 480))

    del test.__wrapped__
    return test


def logged(folder, task_id):
    lines = (folder / task_id / "1.log").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


@scenario
async def test_a_sensor_runs_for_airflow_from_when_to_when_dbt_builds_its_node(
    api, producer, process, folder
):
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS))
    producer.begin()
    await process.until(lambda: ("GET", "task-instances/states") in api.requests)
    assert task.state == "queued"
    producer.report(ORDERS, "started", started_at=at(10))
    assert (await process.report(Begun)).id == task.id
    assert (task.state, task.start, task.by) == ("running", at(10), ("scheduler-1", "dbt_watch", 77))
    producer.report(ORDERS, "success", started_at=at(10), finished_at=at(13), execution_time=3.0)
    assert await process.report(Ended) == Ended(task.id)
    assert (task.state, task.start, task.end) == ("success", at(10), at(13))
    assert api.results_of(task)["unique_id"] == ORDERS
    assert any("orders" in line for line in logged(folder, task.task_id))


@scenario
async def test_the_end_of_a_sensor_tells_airflow_of_the_build_by_an_asset(api, producer, process, folder):
    assets = TrackedAssets("shop", {ORDERS: None, CUSTOMERS: None}, "postgres://db:5432")
    tasks = {name: api.add(f"shop.{name}") for name in ("orders", "customers")}
    for task, unique_id in zip(tasks.values(), (ORDERS, CUSTOMERS), strict=True):
        process.take(watch_of(task, unique_id, assets=assets.only([unique_id])))
    producer.begin()
    producer.report(ORDERS, "success", relation_name='"shop"."public"."orders"', rows_affected=3)
    producer.report(CUSTOMERS, "error")
    await process.until(lambda: {task.state for task in tasks.values()} == {"success", "failed"})
    outlets, (event,) = api.told[tasks["orders"].id]
    assert outlets == [{"name": f"dbt://shop/{ORDERS}", "type": "AssetAlias"}]
    assert event["dest_asset_key"]["uri"] == "postgres://db:5432/shop/public/orders"
    assert (event["extra"]["rows"], event["extra"]["status"]) == (3, "success")
    assert tasks["customers"].id not in api.told


@scenario
async def test_a_sensor_that_is_queued_when_its_node_is_built_has_the_times_all_the_same(
    api, producer, process, folder
):
    producer.begin()
    producer.report(ORDERS, "success", started_at=at(1), finished_at=at(2))
    producer.end()
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS))
    await process.report(Ended)
    assert (task.state, task.start, task.end) == ("success", at(1), at(2))


@scenario
async def test_what_a_failure_holds_back_is_upstream_failed_and_the_failure_itself_failed(
    api, producer, process, folder
):
    orders, customers = api.add("shop.orders"), api.add("shop.customers")
    process.take(watch_of(orders, ORDERS))
    process.take(watch_of(customers, CUSTOMERS))
    producer.begin()
    producer.report(ORDERS, "error", started_at=at(1), finished_at=at(2), message="no such table")
    producer.report(CUSTOMERS, "skipped", skipped_because=(ORDERS,), finished_at=at(3))
    await process.until(lambda: len([item for item in process.reports if isinstance(item, Ended)]) == 2)
    assert (orders.state, customers.state) == ("failed", "upstream_failed")
    assert (customers.start, customers.end) == (at(3), at(3))
    assert any("no such table" in line for line in logged(folder, orders.task_id))
    of_customers = [line for line in logged(folder, customers.task_id) if not line.startswith("waiting")]
    assert of_customers[0] == "failed: customers: not built: upstream `orders` failed"


@scenario
async def test_a_sensor_that_waits_for_long_says_which_nodes_run(api, producer, process, folder):
    pace = msgspec.structs.replace(HUB_PACE, waits=0.05)
    hub_module.Hub = functools.partial(hub_module.Hub.func, pace=pace)  # `quick` puts back what it was
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS))
    producer.begin()
    producer.report(CUSTOMERS, "started", started_at=at(1))
    words = "waiting: dbt is running customers (0 nodes are done)"
    log = folder / task.task_id / "1.log"
    await process.until(lambda: log.exists() and words in logged(folder, task.task_id))


@scenario
async def test_a_sensor_of_a_run_that_never_was_is_skipped(api, producer, process, folder):
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS))
    api.producer.state = "upstream_failed"
    await process.report(Ended)
    assert task.state == "skipped"
    assert task.start == task.end


@scenario
async def test_a_node_that_a_later_attempt_builds_runs_since_then(api, producer, process, folder):
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS))
    producer.begin(will_retry=True)
    producer.report(ORDERS, "error", started_at=at(1), finished_at=at(2))
    await process.report(Begun)
    producer.begin(attempt=2)
    producer.report(ORDERS, "success", started_at=at(20), finished_at=at(25), attempt=2)
    await process.report(Ended)
    assert (task.state, task.start, task.end) == ("success", at(20), at(25))


@scenario
async def test_a_sensor_that_runs_is_spoken_for(api, producer, process, folder):
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS))
    producer.begin()
    producer.report(ORDERS, "started", started_at=at(10))
    await process.until(lambda: task.beats >= 3)


@scenario
async def test_a_sensor_that_a_person_clears_while_it_runs_is_let_go(api, producer, process, folder):
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS))
    producer.begin()
    producer.report(ORDERS, "started", started_at=at(10))
    await process.report(Begun)
    del api.tasks[task.id]
    api.add("shop.orders", state="restarting")
    assert await process.report(Gone) == Gone(task.id, had_begun=True)
    producer.report(ORDERS, "success", started_at=at(10), finished_at=at(11))
    await asyncio.sleep(0.1)
    assert process.reports[-1] == Gone(task.id, had_begun=True)


@scenario
async def test_a_sensor_that_a_person_marks_keeps_that_state(api, producer, process, folder):
    runs, waits = api.add("shop.orders"), api.add("shop.customers")
    process.take(watch_of(runs, ORDERS))
    process.take(watch_of(waits, CUSTOMERS))
    producer.begin()
    producer.report(ORDERS, "started", started_at=at(10))
    await process.report(Begun)
    runs.state = waits.state = "success"
    assert await process.report(Gone) == Gone(runs.id, had_begun=True)
    producer.report(CUSTOMERS, "error", started_at=at(10), finished_at=at(11))
    await process.until(lambda: Gone(waits.id, had_begun=False) in process.reports)
    assert (runs.state, waits.state) == ("success", "success")


@pytest.mark.parametrize("outage", [500, 503, 401, 404, httpx.ConnectError("refused")])
def test_an_outage_of_the_api_is_waited_for(api, producer, tmp_path, outage):
    @scenario
    async def test(api, producer, process, folder):
        task = api.add("shop.orders")
        process.take(watch_of(task, ORDERS))
        producer.begin()
        producer.report(ORDERS, "started", started_at=at(10))
        await process.report(Begun)
        api.outage = outage
        producer.report(ORDERS, "success", started_at=at(10), finished_at=at(11))
        await asyncio.sleep(0.2)
        assert task.state == "running"
        api.outage = None
        await process.report(Ended)
        assert (task.state, task.end) == ("success", at(11))

    test(api, producer, tmp_path)


@scenario
async def test_results_that_cannot_be_left_in_xcom_do_not_change_how_a_sensor_ends(
    api, producer, process, folder
):
    api.refused_xcoms = True
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS))
    producer.begin()
    producer.report(ORDERS, "success", started_at=at(1), finished_at=at(2))
    await process.report(Ended)
    assert task.state == "success"
    assert "The results cannot be written to XCom: 400" in logged(folder, task.task_id)[-1]


@scenario
async def test_an_end_that_needs_a_worker_is_left_to_one_and_the_sensor_stays_queued(
    api, producer, process, folder
):
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS, worker_for=("succeed",)))
    producer.begin()
    producer.report(ORDERS, "started", started_at=at(1))
    producer.report(ORDERS, "success", started_at=at(1), finished_at=at(2))
    assert await process.report(NeedsWorker) == NeedsWorker(task.id)
    assert (task.state, task.start) == ("queued", None)


@scenario
async def test_of_ends_that_need_no_worker_a_sensor_with_callbacks_is_told_by_the_process(
    api, producer, process, folder
):
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS, worker_for=("succeed",)))
    producer.begin()
    producer.report(ORDERS, "error", started_at=at(1), finished_at=at(2))
    await process.report(Ended)
    assert (task.state, task.start, task.end) == ("failed", at(1), at(2))


@scenario
async def test_a_sensor_fails_when_somebody_has_been_told_who_wants_to_be(api, producer, process, folder):
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS, tells_failures=True))
    producer.begin()
    producer.report(ORDERS, "error", started_at=at(1), finished_at=at(2), message="no such table")
    failing = await process.report(Failing)
    assert (failing.id, failing.reason) == (task.id, "orders: error: no such table")
    # A callback reads them.
    assert api.results_of(task)["status"] == "error"
    assert task.state == "running"
    process.take(Told(task.id))
    await process.report(Ended)
    assert task.state == "failed"


@scenario
async def test_a_sensor_that_was_cleared_alone_is_left_to_a_worker(api, producer, process, folder):
    producer.begin(began=1.0)
    producer.report(ORDERS, "success", started_at=at(1), finished_at=at(2))
    producer.end()
    task = api.add("shop.orders")
    process.take(watch_of(task, ORDERS, try_number=2))
    assert await process.report(NeedsWorker) == NeedsWorker(task.id)
    assert task.state == "queued"


@scenario
async def test_another_process_goes_on_where_the_first_one_was(api, producer, process, folder):
    task = api.add("shop.orders")
    producer.begin()
    producer.report(ORDERS, "started", started_at=at(10))
    process.take(watch_of(task, ORDERS))
    await process.report(Begun)
    before = logged(folder, task.task_id)
    # The first one is not heard of any more; the next one knows what the scheduler's part knows.
    [(_, watching)] = process.watcher._sensors.values()
    watching.cancel()
    await asyncio.sleep(0)
    hub_module._hubs.clear()
    other = Process(api)
    other.take(watch_of(task, ORDERS, has_begun=True))
    keeping = asyncio.create_task(other.watcher.keep_alive())
    await process.until(lambda: task.beats >= 1)
    producer.report(ORDERS, "success", started_at=at(10), finished_at=at(13))
    await other.report(Ended)
    assert (task.state, task.start, task.end) == ("success", at(10), at(13))
    after = logged(folder, task.task_id)
    assert after[: len(before)] == before
    assert len(after) == len(set(after))
    keeping.cancel()


@scenario
async def test_an_order_that_comes_again_changes_nothing(api, producer, process, folder):
    task = api.add("shop.orders")
    for _ in range(3):
        process.take(watch_of(task, ORDERS))
    producer.begin()
    producer.report(ORDERS, "success", started_at=at(1), finished_at=at(2))
    await process.report(Ended)
    await asyncio.sleep(0.05)
    assert process.reports == [Begun(task.id), Ended(task.id)]


@scenario
async def test_what_cannot_be_watched_is_left_to_a_worker(api, producer, process, folder):
    task = api.add("shop.orders")

    def broken(*_, **__):
        raise LookupError("a bug")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "sensor_of", broken)
        process.take(watch_of(task, ORDERS))
        assert await process.report(NeedsWorker) == NeedsWorker(task.id)


@scenario
async def test_the_requests_do_not_grow_with_the_sensors_that_wait(api, producer, process, folder):
    nodes = [f"model.shop.n{number}" for number in range(300)]
    tasks = [api.add(f"shop.n{number}") for number in range(300)]
    producer.begin()
    for task, node in zip(tasks, nodes, strict=True):
        process.take(watch_of(task, node))
    await asyncio.sleep(0.3)
    # At this pace some 100 a second.
    assert len(api.requests) < 100
    for node in nodes:
        producer.report(node, "success", started_at=at(1), finished_at=at(2))
    producer.end()
    await process.until(lambda: all(task.state == "success" for task in tasks))


def test_of_many_sensors_that_end_together_some_have_ended_before_the_others_begin(api, producer):
    async def run():
        process = Process(api, at_once=2)
        tasks = [api.add(f"shop.m{number}") for number in range(20)]
        producer.begin()
        for number, task in enumerate(tasks):
            producer.report(f"model.shop.m{number}", "success", started_at=at(1), finished_at=at(2))
            process.take(watch_of(task, f"model.shop.m{number}"))
        producer.end()
        await process.until(lambda: {task.state for task in tasks} == {"success"})
        hub_module._hubs.clear()

    asyncio.run(run())
    told = [path.rpartition("/")[2] for method, path in api.requests if method == "PATCH"]
    assert "".join(word[0] for word in told[:12]).count("s") >= 3, told


@scenario
async def test_a_log_is_brought_to_where_this_deployment_keeps_logs(api, producer, process, folder):
    uploads = []
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(module, "are_kept_elsewhere", lambda: True)
        patch.setattr(
            module.TaskLog, "upload", lambda log, instance: uploads.append((log._relative_path, instance))
        )
        task = api.add("shop.orders")
        process.take(watch_of(task, ORDERS, task_instance={"id": task.id}))
        producer.begin()
        producer.report(ORDERS, "success", started_at=at(1), finished_at=at(2))
        await process.report(Ended)
    assert uploads == [("shop.orders/1.log", {"id": task.id})]


def test_a_token_is_renewed_before_it_runs_out(api, monkeypatch):
    tokens = execution_api._Tokens()
    now = 1000.0
    monkeypatch.setattr(execution_api.time, "monotonic", lambda: now)
    first = tokens.of("a")
    assert tokens.of("a") == first
    now += 599.0
    assert tokens.of("a") != first
    now += 10_000.0
    tokens.of("b")
    assert set(tokens._kept) == {"b"}


def test_ids_with_any_characters_find_their_xcoms():
    assert execution_api._xcom_path(TaskKey("day/night", RUN_ID, "a b"), "dbt.é") == (
        "xcoms/day%2Fnight/manual__2026-11-26T10%3A00%3A00%2B00%3A00/a%20b/dbt.%C3%A9"
    )
