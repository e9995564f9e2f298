"""A page whose Airflow is a dictionary: what the database of a run says is set by each test."""

import pytest
from fastapi import Depends, HTTPException, Request
from fastapi.testclient import TestClient
from made_airflow import DAG, RUN, AirflowOfATest, MadeProject

from dbt_watch.page import app as page_app
from dbt_watch.page import readers


@pytest.fixture
def airflow():
    return AirflowOfATest()


@pytest.fixture
def make(airflow):
    """Return a function that makes a project."""
    return lambda parents, **more: MadeProject(airflow, parents, **more)


@pytest.fixture
def shop(make):
    """A project of three models, one after the other, and one beside them."""
    return make({"raw": (), "orders": ("raw",), "customers": ("orders",), "other": ()})


def rights(request: Request) -> None:
    """Refuse as Airflow does: whoever brings no name is not known, and `stranger` may see nothing."""
    name = request.headers.get("x-user")
    if name is None:
        raise HTTPException(401, "Not authenticated")
    request.state.is_signed_in = True
    if name == "stranger":
        raise HTTPException(403, "Forbidden")


@pytest.fixture
def stored():
    """What lies where artifacts are kept, by its place."""
    return {}


@pytest.fixture
def page(airflow, monkeypatch, stored):
    """A client of the page that is known, and sees each change at once."""
    monkeypatch.setattr(readers, "PACE", 0.0)
    monkeypatch.setattr(readers, "PACE_WHEN_OVER", 0.0)
    application = page_app.create_app(airflow, [Depends(rights)], "/proxy/", stored.__getitem__)
    with TestClient(application, headers={"x-user": "viewer"}, root_path="/proxy/dbt_watch") as client:
        yield client


@pytest.fixture
def ask(page):
    """Return a function that asks for data of the run."""

    def ask(what, status=200, **query):
        answer = page.get(f"/api/{what}", params={"dag_id": DAG, "run_id": RUN, **query})
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask
