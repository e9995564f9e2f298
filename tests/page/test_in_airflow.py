"""The page in a real api-server: Airflow's login, its rights, its database, and what it lists of the plugin."""

import functools
import json
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(desk, tmp_path_factory):
    """What the api-server answers, at its root and below a path."""
    home = tmp_path_factory.mktemp("page")
    shutil.copytree(HERE / "dags", home / "dags")
    at_desk = desk(home)
    at_desk.run("made_shop", "made_shop")

    @functools.cache
    def asked(prefix):
        env = {"AIRFLOW__API__BASE_URL": f"http://testserver{prefix}"}
        output = at_desk.python(str(HERE / "ask_api_server.py"), prefix, **env)
        (line,) = [line for line in output.splitlines() if line.startswith("FOUND ")]
        return json.loads(line.removeprefix("FOUND "))

    return asked


@pytest.mark.parametrize("path", ["", "/air/flow"])
def test_the_page_is_behind_airflows_login_and_reads_its_database(found, path):
    answers = found(path)
    assert answers["runs"][1]["runs"][0]["run_id"] == answers["run_id"]
    (project,) = answers["projects"][1]["projects"]
    assert (project["group_id"], project["producers"]) == ("build", ["build.dbt_build"])
    status, told = answers["record"]
    assert status == 200
    nodes = {node["unique_id"]: node for node in told["record"]["nodes"]}
    assert nodes["model.shop.customers"]["meaning"] == "failure"
    assert nodes["model.shop.customers"]["depends_on"] == ["model.shop.orders"]
    assert "<img src=x" in nodes["model.shop.customers"]["message"]
    assert told["live"]["is_over"] is True
    assert told["live"]["tasks"]["model.shop.orders"]["task_id"] == "build.orders"
    assert answers["changes"][1]["reset"] is True
    assert answers["history"] == [200, {"runs": [], "nodes": {}}]
    assert answers["node"][1]["task_url"].endswith("/tasks/build.customers")
    assert answers["page"][0] == 200
    assert "frame-ancestors 'self'" in answers["page"][1]["content-security-policy"]
    # Nobody, and one who may see nothing.
    status, location = answers["nobody"]["page"]
    assert status == 307
    assert location.startswith("../api/v2/auth/login?next=")
    assert (answers["nobody"]["data"], answers["nobody"]["events"]) == (401, 401)
    assert answers["stranger"]["page"][0] == 403
    assert (answers["stranger"]["data"], answers["stranger"]["events"]) == (403, 403)
    assert answers["bearer"] == 200
    assert answers["login"] == 307  # on to the login page, not refused as an address that is not safe


def test_airflow_lists_the_tabs_of_the_page(found):
    plugin = found("")["plugin"]
    assert {view["destination"] for view in plugin["external_views"]} == {
        "dag",
        "dag_run",
        "task",
        "task_instance",
    }
    assert all(view["href"].startswith("dbt_watch/run?dag_id={DAG_ID}") for view in plugin["external_views"])
    assert {app["url_prefix"]: app["name"] for app in plugin["fastapi_apps"]} == {
        "/dbt_watch": "dbt_watch",
        "/dbt_watch_artifacts": "dbt artifacts",
    }


def test_a_deployment_can_do_without_the_page(desk, tmp_path):
    (tmp_path / "dags").mkdir()
    script = (
        "from dbt_watch.airflow.plugin import DbtWatchPlugin as plugin; plugin.on_load();"
        " print('APPS', len(plugin.fastapi_apps), len(plugin.external_views), len(plugin.operator_extra_links))"
    )
    assert "APPS 1 0 2" in desk(tmp_path).python("-c", script, AIRFLOW__DBT_WATCH__PAGE="False")
