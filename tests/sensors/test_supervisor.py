"""What is asked of Airflow's supervisor, and what is made of its answers."""

import asyncio
import threading
from types import SimpleNamespace

import httpx
import pytest
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time import task_runner, xcom
from airflow.sdk.execution_time.comms import ErrorResponse, OKResponse, TaskStatesResult, XComResult

from dbt_watch.airflow import supervisor as module
from dbt_watch.airflow.supervisor import (
    SupervisorError,
    patiently,
    read_states,
    read_states_now,
    read_xcom,
    write_xcom,
)
from dbt_watch.airflow.task_instances import key_of


class Comms:
    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def send(self, message):
        self.asked.append(message)
        return self.answer

    async def asend(self, message):
        return self.send(message)


@pytest.fixture
def supervisor(monkeypatch):
    def answering(answer):
        comms = Comms(answer)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
        return comms

    return answering


def own(map_index=-1):
    return key_of(SimpleNamespace(dag_id="shop", run_id="run", task_id="shop.dbt_build", map_index=map_index))


@pytest.mark.parametrize("map_index", [-1, None, 0, 3])
def test_the_states_of_tasks_are_found_whatever_their_map_index(supervisor, map_index):
    suffix = "" if map_index in {-1, None} else f"_{map_index}"
    states = {f"shop.orders{suffix}": "success", f"shop.customers{suffix}": None}
    comms = supervisor(TaskStatesResult(task_states={"run": states}))
    wanted = ["shop.orders", "shop.customers", "shop.never"]
    found = {"shop.orders": "success", "shop.customers": None, "shop.never": None}
    assert read_states_now(own(map_index), wanted) == found
    assert asyncio.run(read_states(own(map_index), wanted)) == found
    assert [message.map_index for message in comms.asked] == 2 * [map_index if suffix else None]


def test_nobody_is_asked_for_no_tasks(supervisor):
    comms = supervisor(None)
    assert read_states_now(own(), []) == {}
    assert not comms.asked


def test_what_is_no_answer_is_an_error(supervisor):
    supervisor(ErrorResponse())
    with pytest.raises(SupervisorError):
        read_states_now(own(), ["shop.orders"])
    with pytest.raises(SupervisorError):
        asyncio.run(write_xcom(own(), "journal_0000", "page"))


class Counting(Comms):
    """Answers for each task that it is asked for, and keeps the length of each question's URL."""

    def __init__(self):
        super().__init__(None)
        self.lengths = []

    def send(self, message):
        query = {"dag_id": message.dag_id, "run_ids": message.run_ids, "task_ids": message.task_ids}
        self.lengths.append(len(str(httpx.URL("http://localhost/task-instances/states", params=query))))
        return TaskStatesResult(task_states={"run": dict.fromkeys(message.task_ids, "success")})


@pytest.mark.parametrize("read", [read_states_now, lambda *args: asyncio.run(read_states(*args))])
def test_the_states_of_thousands_of_tasks_are_asked_for_in_requests_that_every_proxy_lets_pass(
    monkeypatch, read
):
    comms = Counting()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    tasks = [f"shop.a_model_with_a_long_name_é_{number:05d}" for number in range(2_500)]
    assert read(own(), tasks) == dict.fromkeys(tasks, "success")
    assert max(comms.lengths) < 8_000
    assert len(comms.lengths) < 50


@pytest.fixture
def slow_backend(monkeypatch):
    """An XCom backend that reads and writes elsewhere, and the threads in which it was called."""
    threads = []

    class ObjectStore(BaseXCom):
        @staticmethod
        def serialize_value(value, **_):
            threads.append(threading.get_ident())
            return f"stored {value}"

        @staticmethod
        def deserialize_value(result):
            threads.append(threading.get_ident())
            return f"read {result.value}"

    monkeypatch.setattr(xcom, "XCom", ObjectStore)
    return threads


def test_a_backend_that_reads_an_object_store_does_not_block_the_event_loop_of_the_triggers(
    supervisor, slow_backend
):
    supervisor(XComResult(key="journal_0000", value="page"))
    assert asyncio.run(read_xcom(own(), "journal_0000")) == "read page"
    comms = supervisor(OKResponse(ok=True))
    asyncio.run(write_xcom(own(), "journal_0000", "page"))
    assert comms.asked[0].value == "stored page"
    assert len(slow_backend) == 2
    assert threading.get_ident() not in slow_backend


def test_a_question_is_asked_again_until_there_is_an_answer(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE_FIRST", 0.001)
    answers = [None, None, "success"]

    def ask():
        answer = answers.pop(0)
        if answer is None:
            raise SupervisorError("no answer")
        return answer

    assert patiently(ask) == "success"
    answers[:] = [None] * 100
    with pytest.raises(SupervisorError):
        patiently(ask, patience=0.01)
