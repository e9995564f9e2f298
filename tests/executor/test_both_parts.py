"""Both parts of the executor, the scheduler's and the process that watches, with a stand-in for Airflow's API on loopback."""

import asyncio
import os
import signal
import threading
import time
import uuid
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from airflow.executors.workloads import BundleInfo, ExecuteTask
from airflow.executors.workloads.task import TaskInstanceDTO
from scripted_api import PRODUCER, RUN_ID, at

import dbt_watch
from dbt_watch.executor import child as child_module
from dbt_watch.executor import node_executor as module
from dbt_watch.local.airflow.deployment import free_port
from dbt_watch.sensors.operator import NODE_EXECUTOR, DbtNodeSensor

NODES = 30
PATIENCE = 240


class Server:
    """The API, on a port, until it is stopped."""

    def __init__(self, api, port):
        self._api, self._port = api, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner = self._do(self._start())

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _start(self):
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        return runner

    async def _answer(self, request):
        body = await request.read()
        url = f"http://127.0.0.1{request.raw_path}"
        answer = await self._api.answer(
            httpx.Request(request.method, url, headers=dict(request.headers), content=body)
        )
        headers = {"content-type": "application/json"}
        return web.Response(status=answer.status_code, body=answer.content, headers=headers)

    def stop(self):
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def server(api, port):
    servers = [Server(api, port)]
    yield servers
    servers[-1].stop()


@pytest.fixture
def executor(api, port, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", f"http://127.0.0.1:{port}/execution/")
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    monkeypatch.setattr(module, "default_executor", lambda: "LocalExecutor")
    monkeypatch.setattr(child_module, "_PAUSE_FIRST", 0.1)
    executor = dbt_watch.NodeExecutor()
    executor.start()
    yield executor
    executor.end()


def node(number):
    return f"model.shop.n{number}"


def queue(executor, api, number):
    sensor = DbtNodeSensor(
        task_id=f"n{number}", producer_task_id=PRODUCER, unique_ids=[node(number)], executor=NODE_EXECUTOR
    )
    task = api.add(f"shop.n{number}")
    ti = TaskInstanceDTO(
        id=uuid.UUID(task.id), dag_id="shop", run_id=RUN_ID, task_id=task.task_id, try_number=1, map_index=-1,
        dag_version_id=uuid.uuid4(), queue="default", pool_slots=0, priority_weight=1,
        executor_config=sensor.executor_config,
    )  # fmt: skip
    workload = ExecuteTask(
        ti=ti,
        token="",
        dag_rel_path=Path("shop.py"),
        log_path=f"n{number}.log",
        bundle_info=BundleInfo(name="dags"),
    )
    executor.queue_workload(workload, session=None)
    return task


def until(executor, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        executor.heartbeat()
        time.sleep(0.05)


def test_neither_a_killed_process_nor_an_api_that_is_gone_for_a_while_is_noticed(
    api, producer, port, server, executor
):
    tasks = [queue(executor, api, number) for number in range(NODES)]
    producer.begin()
    for number in range(10):
        producer.report(node(number), "started", started_at=at(number))
    until(executor, lambda: [task.state for task in tasks].count("running") == 10)
    first = executor._child.pid
    os.kill(first, signal.SIGKILL)
    until(executor, lambda: executor._child.pid not in {None, first})
    for number in range(10):
        producer.report(node(number), "success", started_at=at(number), finished_at=at(number + 1))
    until(executor, lambda: [task.state for task in tasks].count("success") == 10)
    server[-1].stop()
    for number in range(10, NODES):
        producer.report(node(number), "success", started_at=at(number), finished_at=at(number + 1))
    producer.end()
    executor.heartbeat()
    time.sleep(1)
    server.append(Server(api, port))
    until(executor, lambda: not executor.running)
    assert [task.state for task in tasks] == ["success"] * NODES
    assert [(task.start, task.end) for task in tasks] == [(at(n), at(n + 1)) for n in range(NODES)]
    assert len({task.by for task in tasks}) == 1
    assert not executor.event_buffer
    ends = [path for method, path in api.requests if path.endswith("/state")]
    assert len(ends) == len(set(ends)) == NODES
