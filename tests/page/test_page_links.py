"""The links from Airflow's tasks to the page, and how its tabs are addressed."""

import asyncio
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from dbt_watch.airflow.page_plugin import PageLink, external_views, page
from dbt_watch.airflow.web_parts import LateMount
from dbt_watch.producers.api.operator import DbtApiOperator
from dbt_watch.producers.pods.operator import producer_class
from dbt_watch.sensors.operator import DbtNodeSensor


@pytest.mark.parametrize("operator", [DbtNodeSensor, DbtApiOperator, producer_class()])
def test_airflow_finds_the_link_of_each_task_of_a_project(operator):
    # As `OperatorSerialization.populate_operator` compares.
    named = [(each.__name__, each.__module__) for each in PageLink.operators]
    assert (operator.__name__, operator.__module__) in named


@pytest.mark.parametrize(("map_index", "told"), [(-1, None), (None, None), (0, ["0"])])
def test_a_link_leads_to_the_task_in_its_run_relative_to_airflows_own_address(map_index, told):
    key = SimpleNamespace(dag_id="a b", run_id="manual__2026+1", task_id="shop.orders", map_index=map_index)
    address = PageLink().get_link(None, ti_key=key)
    path, query = urlsplit(address).path, parse_qs(urlsplit(address).query)
    assert path == "dbt_watch/run"
    assert (query["dag_id"], query["run_id"], query["task_id"]) == (
        ["a b"],
        ["manual__2026+1"],
        ["shop.orders"],
    )
    assert query.get("map_index") == told


def test_each_tab_has_a_route_of_its_own_and_an_address_without_a_host():
    views = external_views()
    assert len({view["url_route"] for view in views}) == len(views)
    assert not [view for view in views if view["href"].startswith(("/", "http"))]


def test_the_page_is_made_by_its_first_request_and_once(monkeypatch):
    made, answered = [], []

    async def shown(*arguments):
        answered.append(arguments)

    def make():
        made.append(shown)
        return shown

    async def ask():
        for request in ("first", "second"):
            await mount(request, None, None)

    monkeypatch.setattr("dbt_watch.page.app.page_of_airflow", make)
    mount = LateMount(page)
    assert not made
    asyncio.run(ask())
    assert (len(made), [arguments[0] for arguments in answered]) == (1, ["first", "second"])
