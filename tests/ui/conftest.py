"""A browser of this machine, and a real Airflow whose page it looks at."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from harness import Run, dags_in

HERE = Path(__file__).parent
# In milliseconds, on a machine that may be slow.
PATIENCE = 60_000


# Before the marks decide what runs: without `--ui`, no Airflow is started for a browser that is not there.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.ui)
            item.add_marker(pytest.mark.timeout(900))


def chromium():
    """Return the path of a Chromium of this machine; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: nox -s ui")
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium on this machine; $CHROMIUM may name one")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def made_dags(airflow):
    with dags_in(airflow, HERE / "dags/made_projects.py", env={}):
        yield


@pytest.fixture(scope="session")
def start(airflow, made_dags):
    """Return a function that starts a run of a DAG."""
    return lambda dag_id: Run.start(airflow, dag_id)


@pytest.fixture(scope="session")
def ended(start):
    """Return a function that returns the ended run of a DAG, the same each time."""
    kept = {}

    def ended(dag_id):
        if dag_id not in kept:
            kept[dag_id] = start(dag_id).ended()
        return kept[dag_id]

    return ended


@pytest.fixture(scope="session")
def token(airflow):
    login = airflow.login
    answer = httpx.post(
        f"{airflow.url}/auth/token", json={"username": login.username, "password": login.password}, timeout=60
    )
    answer.raise_for_status()
    return answer.json()["access_token"]


@pytest.fixture(scope="session")
def airflow_version():
    """The version of Airflow, as numbers."""
    return tuple(int(part) for part in version("apache-airflow").split(".")[:2])


# As the login page of the simple auth manager makes one.
_SIGN_IN = """
import sys
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
user = SimpleAuthManagerUser(username="somebody", role=sys.argv[1] or None)
print("TOKEN", SimpleAuthManager().generate_jwt(user))
"""


@pytest.fixture(scope="session")
def token_of(airflow):
    """Return a function that returns a token of somebody who has a role; None for no role at all."""

    def token_of(role):
        command = [sys.executable, "-c", _SIGN_IN, role or ""]
        done = subprocess.run(
            command, check=False, env=airflow.env, cwd=airflow.home, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("TOKEN ")]
        return line.split()[1]

    return token_of


@pytest.fixture
def tab(browser, airflow, token):
    """Return a function that opens a tab, by default one in which the admin is logged in; what goes wrong in it fails the test."""
    opened, complaints = [], []

    def tab(*, anonymous=False, token=token, **options):
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        opened.append(context)
        if not anonymous:
            context.add_cookies([{"name": "_token", "value": token, "url": airflow.url}])
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None,
        )
        return page

    yield tab
    for context in opened:
        context.close()
    assert not complaints


@pytest.fixture
def address(airflow):
    """Return a function that returns the address of a run's page."""

    def address(run, **query):
        return (
            f"{airflow.url}/dbt_watch/run?{urlencode({'dag_id': run.dag_id, 'run_id': run.run_id, **query})}"
        )

    return address


@pytest.fixture
def picture(pytestconfig):
    """Return a function that keeps a picture of a tab, where somebody wants pictures."""
    folder = os.environ.get("PICTURES")

    def picture(page, name):
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return picture
