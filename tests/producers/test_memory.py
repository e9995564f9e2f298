"""What a later attempt goes by that the first one has left."""

import json
from datetime import datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.sdk.log import mask_secret

from dbt_watch.core.results import NodeResult
from dbt_watch.producers.retry_state import BUILT_KEY, MAX_TRIES, Memory


class StateStore(dict):
    """Airflow's store of a task's state."""

    set = dict.__setitem__


@pytest.fixture
def store():
    return StateStore()


def memory(store, max_tries=2):
    return Memory({"ti": SimpleNamespace(max_tries=max_tries), "task_state_store": store})


FIRST = {"vars": {"day": "2026-01-01"}, "threads": "4", "select": ["tag:a", "tag:b"], "leading": ["dbt"]}


def test_a_later_attempt_has_the_options_of_the_first(store):
    assert memory(store).options_of_first_attempt(FIRST) == FIRST
    later = {"vars": {"day": "2026-01-02"}, "full_refresh": True, "leading": ["uv", "run", "dbt"]}
    assert memory(store).options_of_first_attempt(later) == {**FIRST, "leading": later["leading"]}


def test_that_they_are_not_what_they_would_be_now_is_said(store, caplog):
    memory(store).options_of_first_attempt({"threads": "4", "target": "dev"})
    with caplog.at_level("INFO"):
        memory(store).options_of_first_attempt({"threads": "8", "target": "dev"})
    assert "Using the values of the first attempt, although these have changed since: threads" in caplog.text


def test_times_are_no_change(store, caplog):
    start = {"event_time_start": datetime(2026, 1, 1)}
    memory(store).options_of_first_attempt(start)
    with caplog.at_level("INFO"):
        kept = memory(store).options_of_first_attempt(start)
    assert kept == {"event_time_start": "2026-01-01T00:00:00"}
    assert not caplog.text


def test_after_a_clear_they_are_as_they_are_then(store):
    memory(store, 2).options_of_first_attempt(FIRST)
    later = {"vars": {"day": "2026-01-02"}}
    assert memory(store, 5).options_of_first_attempt(later) == later
    assert memory(store, 5).options_of_first_attempt(FIRST) == {**later, "leading": ["dbt"]}


def test_a_secret_is_not_kept_and_is_as_it_is_now(store):
    mask_secret("pa55-in-a-flag")
    options = {"vars": {"api_token": "kept-n0where"}, "flags": ["--state", "pa55-in-a-flag"], "threads": "4"}
    memory(store).options_of_first_attempt(options)
    assert "kept-n0where" not in repr(store)
    assert "pa55-in-a-flag" not in repr(store)
    later = {**options, "vars": {"api_token": "renewed-token"}, "threads": "8"}
    assert memory(store).options_of_first_attempt(later) == {**later, "threads": "4"}


def test_an_airflow_without_such_a_store_renders_them_anew(caplog):
    memory = Memory({"ti": SimpleNamespace(max_tries=1)})
    assert memory.options_of_first_attempt(FIRST) == FIRST
    assert memory.options_of_first_attempt({"threads": "1"}) == {"threads": "1"}
    assert not caplog.text


def test_a_store_that_fails_is_no_error(caplog):
    class Broken:
        def get(self, key):
            raise ConnectionError("500")

        def set(self, key, value):
            raise ConnectionError("500")

    assert memory(Broken()).options_of_first_attempt(FIRST) == FIRST
    assert "The state left by earlier attempts cannot be read: 500" in caplog.text


def test_what_json_cannot_hold_is_not_kept_and_is_no_error(store):
    options = {"vars": {"what": object()}}
    assert memory(store).options_of_first_attempt(options) == options
    assert not store


@pytest.mark.parametrize(("code", "answer"), [(404, False), (500, None)])
def test_an_attempt_that_airflow_has_given_up_learns_that_from_its_end(code, answer):
    class Refusing(StateStore):
        def set(self, key, value):
            response = ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": code})
            raise AirflowRuntimeError(response)

    assert memory(Refusing()).remember_end() is answer


def test_an_attempt_that_airflow_knows_learns_that_too(store):
    assert memory(store).remember_end() is True
    assert memory(None).remember_end() is None


def test_a_bad_end_takes_back_that_an_earlier_one_was_good(store):
    memory(store).remember_end()
    assert memory(store).is_done
    memory(store).remember_end(well=False)
    assert not memory(store).is_done


BUILT = NodeResult(unique_id="model.shop.orders", name="orders", status="success", rows_affected=7)


def test_what_an_attempt_has_built_is_remembered_as_it_is_until_a_clear(store):
    assert memory(store, 2).built == []
    memory(store, 2).remember_built([BUILT])
    assert memory(store, 2).built == [BUILT]
    assert memory(store, 5).built == []
    json.dumps(store[BUILT_KEY])


def test_an_attempt_that_has_built_nothing_more_takes_nothing_back(store):
    memory(store).remember_built([BUILT])
    memory(store).remember_built([])
    assert memory(store).built == [BUILT]


@pytest.mark.parametrize("stored", ["2", [], {}, {"results": []}])
def test_what_another_version_has_stored_is_nothing_that_was_built(store, stored):
    store[BUILT_KEY] = stored
    assert memory(store).built == []


def test_without_a_store_nothing_is_remembered_to_be_built():
    memory(None).remember_built([BUILT])
    assert memory(None).built == []


def tried(name, status, **more):
    return NodeResult(unique_id=f"model.shop.{name}", status=status, started_at=datetime(2026, 1, 1), **more)


def test_nodes_that_have_failed_are_remembered_until_a_clear_without_what_takes_room(store):
    failed = tried("a", "error", message="x" * 5_000, adapter_response={"rows": 1})
    memory(store).remember_tries([failed, tried("b", "success"), NodeResult(unique_id="c", status="not run")])
    (kept,) = memory(store).tries
    assert (kept.unique_id, kept.adapter_response) == ("model.shop.a", {})
    assert len(kept.message) < 1_000
    memory(store).remember_tries([tried("a", "error", attempt=2)])
    assert [one.attempt for one in memory(store).tries] == [1, 2]
    assert memory(store, 5).tries == []


def test_of_many_failures_the_last_ones_are_remembered(store):
    memory(store).remember_tries([tried(str(number), "error") for number in range(MAX_TRIES + 10)])
    assert len(memory(store).tries) == MAX_TRIES
