"""What is asked of Airflow's supervisor, and what is made of its answers."""

import asyncio
from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, TaskStatesResult

from dbt_watch.supervisor import SupervisorError, key_of, read_states, read_states_now, write_xcom


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
