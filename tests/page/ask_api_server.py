"""Asks the api-server of an Airflow, within its own process, for the page of a run; prints what was answered. See `test_in_airflow`."""

import gc
import json
import sys

from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.testclient import TestClient

from dbt_watch.airflow.api_server import RunDatabase

# To look for garbage is a third of what this computes.
gc.disable()
server = create_app("core")
run = RunDatabase().run("made_shop", None)
query = {"dag_id": "made_shop", "run_id": run.run_id}
prefix = sys.argv[1] if len(sys.argv) > 1 else ""


def client(role):
    """Return a browser in which somebody is logged in; None for one in which nobody is."""
    browser = TestClient(server, base_url="http://testserver", follow_redirects=False)
    if role is not None:
        user = SimpleAuthManagerUser(username="somebody", role=role or None)
        browser.cookies.set("_token", get_auth_manager().generate_jwt(user), path="/")
    return browser


found = {"run_id": run.run_id}
viewer, nobody, stranger = client("viewer"), client(None), client("")
for name in ("runs", "projects", "record", "changes", "history"):
    answer = viewer.get(f"{prefix}/dbt_watch/api/{name}", params=query)
    found[name] = [answer.status_code, answer.json()]
details = viewer.get(f"{prefix}/dbt_watch/api/node", params={**query, "node": "model.shop.customers"})
found["node"] = [details.status_code, details.json()]
page = viewer.get(f"{prefix}/dbt_watch/run", params=query)
found["page"] = [page.status_code, dict(page.headers)]
for who, browser in (("nobody", nobody), ("stranger", stranger)):
    of_page = browser.get(f"{prefix}/dbt_watch/run", params=query)
    found[who] = {
        "page": [of_page.status_code, of_page.headers.get("location")],
        "data": browser.get(f"{prefix}/dbt_watch/api/record", params=query).status_code,
        "events": browser.get(f"{prefix}/dbt_watch/api/events", params=query).status_code,
    }
bearer = {"Authorization": f"Bearer {viewer.cookies['_token']}"}
found["bearer"] = nobody.get(f"{prefix}/dbt_watch/api/record", params=query, headers=bearer).status_code
found["login"] = viewer.get(
    f"{prefix}/dbt_watch/{found['nobody']['page'][1]}".replace("/dbt_watch/..", "")
).status_code
plugins = client("admin").get(f"{prefix}/api/v2/plugins").json()["plugins"]
found["plugin"] = next(plugin for plugin in plugins if plugin["name"] == "dbt_watch")
sys.stdout.write(f"FOUND {json.dumps(found)}\n")
