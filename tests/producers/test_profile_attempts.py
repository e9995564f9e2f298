"""The profile of a pod from attempt to attempt, on a cluster of processes: what dbt finds, and what is left in the end."""

import json

import pytest
import test_parts
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import BaseHook, Connection
from airflow.sdk.execution_time.context import set_current_context
from dbt_words import BEGINNING, said
from harness import until
from test_parts import RAW_ORDERS, directory, kube, shop  # noqa: F401 - fixtures

from dbt_watch import DbtProfile
from dbt_watch.airflow.execution import executing
from dbt_watch.exceptions import DbtRunFailed
from dbt_watch.producers.pods.pod_profile import PodProfile
from dbt_watch.profiles.dbt_profile import PROFILES_DIR

# Stands for dbt: it leaves word of the profile that it finds.
SCRIPT = """
import json, os, sys
found = json.load(open("/etc/dbt-watch/profiles.yml"))
secrets = {{name: value for name, value in os.environ.items() if name.startswith("DBT_ENV_SECRET_PROFILE")}}
seen = {{"file": found, "secrets": secrets, "arguments": sys.argv[1:]}}
open("/asked/{run_id}", "w").write(json.dumps(seen))
print({log!r})
raise SystemExit({exit_code})
"""
TASK = "shop.raw_orders"
PROFILE = {"profile": DbtProfile("warehouse", type="postgres", schema="marts"), "profiles_dir": PROFILES_DIR}


class Warehouse:
    """The connection, whose password is another one each time that it is read."""

    def __init__(self):
        self.passwords = []

    def read(self, conn_id):
        if conn_id != "warehouse":
            return Connection(conn_id=conn_id, conn_type="kubernetes")
        self.passwords.append(f"p4ssword-{len(self.passwords)}")
        return Connection(
            conn_id=conn_id,
            conn_type="postgres",
            host="db",
            login="dbt",
            password=self.passwords[-1],
            schema="shop",
        )


@pytest.fixture
def warehouse(monkeypatch):
    warehouse = Warehouse()
    monkeypatch.setattr(BaseHook, "get_connection", warehouse.read)
    return warehouse


@pytest.fixture
def attempt(shop, warehouse, monkeypatch):  # noqa: F811 - the fixture
    """Run an attempt of a task with a profile."""
    monkeypatch.setattr(test_parts, "SCRIPT", SCRIPT)

    def run(**more):
        says = {"says": {RAW_ORDERS: "success"}, "exit_code": 0, **more}
        watched, selected = {TASK: (RAW_ORDERS,)}, frozenset({RAW_ORDERS})
        return shop.attempt(None, watched=watched, selected=selected, **PROFILE, **says)

    return run


@pytest.fixture
def secrets(shop):  # noqa: F811
    """Return the Secrets that are there when no pod of the run is any more."""

    def found(*, with_pods=False):
        if not with_pods:
            until(lambda: not shop.pods, "a pod is left", pause=0.05)
        items = shop.operator("", watched={}).client.list_namespaced_secret("default").items
        return [item for item in items if (item.metadata.labels or {}).get("run_id") == shop.run_id]

    return found


@pytest.mark.parametrize("deferrable", [False, True])
def test_dbt_finds_its_profile_which_goes_with_the_pod(attempt, shop, secrets, warehouse, deferrable):  # noqa: F811
    attempt(deferrable=deferrable)
    seen = json.loads(shop.asked_in.read_text())
    assert list(seen["file"]) == ["jaffle_shop"]
    assert list(seen["secrets"].values()) == warehouse.passwords == ["p4ssword-0"]
    words = seen["arguments"]
    assert words[words.index("--profiles-dir") + 1] == PROFILES_DIR
    assert words[words.index("--profile") + 1] == "jaffle_shop"
    assert not secrets()
    assert not [page for page in shop.pages.values() if "p4ssword" in str(page)]


def test_each_attempt_reads_the_connection_anew(attempt, shop, secrets, warehouse):  # noqa: F811
    for number in (1, 2):
        with pytest.raises(DbtRunFailed):
            attempt(number=number, tries=2, says={RAW_ORDERS: "error"}, exit_code=1)
        seen = json.loads(shop.asked_in.read_text())
        assert list(seen["secrets"].values()) == [f"p4ssword-{number - 1}"]
        assert not secrets()


def test_a_pod_that_is_taken_over_takes_its_secret_along_though_its_worker_died_in_between(
    attempt,
    shop,  # noqa: F811
    secrets,
    monkeypatch,
):
    context = shop.context(1, 1)
    log = "\n".join([BEGINNING, said(RAW_ORDERS, "success")])
    script = f"import time; time.sleep(3); print({log!r})"
    producer = shop.operator(script, watched={TASK: (RAW_ORDERS,)}, deferrable=True, **PROFILE)
    producer.selected = frozenset({RAW_ORDERS})
    with monkeypatch.context() as dies, set_current_context(context), executing(producer):
        dies.setattr(PodProfile, "_give", lambda *_: None)
        with pytest.raises(TaskDeferred):
            producer.execute(context)
    (secret,) = secrets(with_pods=True)
    assert not secret.metadata.owner_references
    attempt(number=2, tries=1)
    assert not shop.asked_in.exists(), "no other pod was made"
    assert not secrets()


def test_what_a_worker_left_that_died_before_there_was_a_pod_is_replaced(attempt, shop, secrets):  # noqa: F811
    context = shop.context(1, 1)
    producer = shop.operator("", watched={}, **PROFILE)
    left = PodProfile(producer, context, "default")
    left.read({})
    left._create(producer.build_pod_request_obj(context))
    (before,) = secrets(with_pods=True)
    attempt(number=2, tries=1)
    assert json.loads(shop.asked_in.read_text())["secrets"]
    assert before.metadata.uid not in {item.metadata.uid for item in secrets()}
    assert not secrets()


def test_what_is_left_goes_where_the_next_attempt_has_nothing_to_build(attempt, shop, secrets, monkeypatch):  # noqa: F811
    with monkeypatch.context() as dies:
        dies.setattr(PodProfile, "_give", lambda *_: None)
        attempt(tries=1)
    assert len(secrets()) == 1
    shop.asked_in.unlink()
    shop.end(TASK, "success")
    attempt(number=2, tries=1)
    assert not shop.asked_in.exists()
    assert not secrets()
