"""When a run may be over: the longest chain of what is left, whatever lies between."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from made_airflow import START, model

from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.page.live import estimated_end


def end_of(parents, results):
    """Return in how many seconds a run may be over, of which each node takes ten seconds and any number run at once."""
    graph = SimpleNamespace(
        parent_map={model(name): tuple(map(model, before)) for name, before in parents.items()}
    )
    history = SimpleNamespace(medians=lambda _: dict.fromkeys(map(model, parents), 10.0), width=1_000)
    found = estimated_end(SimpleNamespace(facts=SimpleNamespace(graph=graph)), results, history, START)
    return (found - START) / timedelta(seconds=1)


def left(*names, **others):
    known = {model(name): NodeResult(unique_id=model(name), status="not run") for name in names}
    return known | {model(name): NodeResult(unique_id=model(name), **more) for name, more in others.items()}


EPHEMERAL = {"status": "not run", "not_run": NotRun.EPHEMERAL}


def test_a_chain_goes_on_behind_an_ephemeral_model_which_takes_no_time():
    parents = {"raw": (), "gone": ("raw",), "thin": ("gone",), "orders": ("thin",), "late": ("orders",)}
    assert end_of(parents, left("raw", "orders", "late", gone=EPHEMERAL, thin=EPHEMERAL)) == 30.0


def test_what_is_done_takes_no_time():
    parents = {"raw": (), "orders": ("raw",), "late": ("orders",)}
    assert end_of(parents, left("orders", "late", raw={"status": "success"})) == 20.0


@pytest.mark.parametrize("parents", [{"a": ("b",), "b": ("a",)}, {"a": ("a",)}])
def test_a_graph_with_a_circle_comes_to_an_end(parents):
    assert end_of(parents, left(*parents)) >= 10.0
