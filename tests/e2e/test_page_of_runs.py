"""What the page is told of whole runs: by the api-server of the Airflow that ran them."""

import httpx
import pytest


@pytest.fixture(scope="module")
def page(airflow):
    """Return a function that asks the page for something about a run."""
    login = {"username": airflow.login.username, "password": airflow.login.password}
    with httpx.Client(base_url=airflow.url, timeout=60) as client:
        token = client.post("/auth/token", json=login).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"

        def ask(run, what, **query):
            answer = client.get(
                f"/dbt_watch/api/{what}", params={"dag_id": run.dag_id, "run_id": run.run_id, **query}
            )
            assert answer.status_code == 200, answer.text
            return answer.json()

        yield ask


def named(answer, name):
    (node,) = [node for node in answer["record"]["nodes"] if node["unique_id"].endswith(f".{name}")]
    return node


def test_of_a_failed_run_the_page_has_the_culprit_its_sql_and_the_way_to_its_task(run_of, page):
    run = run_of("broken_for_good")
    answer = page(run, "record")
    cause = answer["record"]["causes"][0]
    assert cause["node"] == "model.jaffle_shop.orders"
    assert "model.jaffle_shop.customers" in cause["blocked"]
    assert named(answer, "orders")["depends_on"]
    assert named(answer, "orders")["path"] == "models/marts/orders.sql"
    assert answer["record"]["critical_path"]["nodes"]
    assert answer["live"]["is_over"] is True
    details = page(run, "node", node="model.jaffle_shop.orders")
    assert "order_totl" in details["sql_sent"]
    assert details["task_url"].endswith("/tasks/shop.orders")


def test_each_task_of_a_project_leads_to_its_node(run_of, page, airflow):
    run = run_of("jaffle_shop")
    selected = page(run, "projects", task_id="build.customers")["selected"]
    assert selected == {"group_id": "build", "map_index": -1, "node": "model.jaffle_shop.customers"}
    for task_id in ("build.customers", "build.dbt_build"):
        links = airflow.client.get(f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/links")
        assert links["extra_links"]["dbt"].startswith(f"dbt_watch/run?dag_id={run.dag_id}&")


def test_after_a_retry_the_page_shows_what_the_last_attempt_has_made_of_it(run_of, page):
    answer = page(run_of("retried"), "record")
    assert answer["live"]["attempt"] == 2
    assert named(answer, "orders")["meaning"] == "success"
    assert answer["record"]["causes"] == []


def test_a_pod_that_does_not_start_is_the_cause(run_of, page):
    (cause,) = page(run_of("unpullable"), "record")["record"]["causes"]
    assert cause["node"] is None
    assert "Image" in cause["message"] or "image" in cause["message"]


def test_each_instance_of_a_mapped_project_is_a_project_of_its_own(run_of_example, page):
    run = run_of_example("regions")
    projects = page(run, "projects")["projects"]
    assert len(projects) > 1
    assert [project["map_index"] for project in projects] == list(range(len(projects)))
    last = projects[-1]
    answer = page(run, "record", project=last["group_id"], map_index=last["map_index"])
    assert answer["record"]["nodes"]
    assert answer["record"]["outcome"] == "success"
