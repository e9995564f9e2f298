"""The pages of `dbt docs` in a browser, as Airflow's web interface shows them: whole, in their sandbox, without a way out of it."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlencode

import pytest
import uvicorn
from fastapi import FastAPI

from dbt_watch.page.docs_site import docs_router

FILES = ("index.html", "manifest.json", "catalog.json")


@pytest.fixture(scope="module")
def docs(landed_shop, tmp_path_factory):
    """Generate the pages, serve them as the api-server does, and return their address."""
    environment = {**os.environ, "LANDED_SHOP_DB": str(tmp_path_factory.mktemp("docs") / "shop.duckdb")}
    for words in (["run", "--select", "orders"], ["docs", "generate"]):
        command = [
            f"{sys.prefix}/bin/dbt",
            *words,
            "--project-dir",
            landed_shop,
            "--profiles-dir",
            landed_shop,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)
    kept = {"place": str(landed_shop / "target"), "files": dict.fromkeys(FILES, 1)}
    app = FastAPI(openapi_url=None)
    app.include_router(docs_router(lambda *_: kept, lambda place: Path(place).read_bytes()))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        query = urlencode({"dag_id": "shop", "run_id": "one", "task_id": "build.dbt_build"})
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/docs?{query}"
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(60_000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.close()


def test_a_model_is_shown_with_its_columns_its_code_and_its_lineage(docs, page, picture):
    page.goto(f"{docs}#!/model/model.landed_shop.orders")
    page.get_by_text("schema_name as order_id").first.wait_for()
    assert {"order_id", "VARCHAR", "order_payments"} <= set(page.inner_text("body").split())
    picture(page, "docs-model")
    page.locator('[ng-click="onLauncherClick()"]').first.click()
    page.locator("canvas").first.wait_for()
    picture(page, "docs-lineage")
    assert page.errors == []


def test_the_page_reaches_nothing_of_the_server_that_shows_it(docs, page):
    page.goto(docs)
    page.get_by_text("Welcome!").first.wait_for()
    assert page.evaluate("window.origin") == "null"
    asked = "fetch('/file?dag_id=shop&run_id=one&task_id=x&name=manifest.json').then(() => 'read', () => 'refused')"
    assert page.evaluate(asked) == "refused"
    assert (
        page.evaluate("(() => { try { return document.cookie } catch (error) { return 'refused' } })()")
        == "refused"
    )
