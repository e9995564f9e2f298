"""The code of docs/dag-tests.md does what the page says; its first test and its conftest run in `tests/e2e/test_dag_tests.py`."""

import re
import shutil
import time
from pathlib import Path

import httpx
import pytest
from played import BUILD, Played
from test_fake_dbt import resource, written

from dbt_watch.testing import DagRun

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/dag-tests.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SCRIPTS, COMMANDS, CHECK, ON_LOCALKUBE = BLOCKS[1], BLOCKS[2], BLOCKS[3], BLOCKS[5]
MANIFEST = ROOT / "tests/lineage/recordings/manifest.json"


@pytest.fixture(autouse=True)
def manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Path("dags/dbt/shop/target")
    place.mkdir(parents=True)
    shutil.copy(MANIFEST, place)


def run(code, **names):
    exec(compile(code, "docs/dag-tests.md", "exec"), names)  # noqa: S102 - the page's own
    return names


def test_the_scripts_do_what_they_say():
    made = run(SCRIPTS)
    orders, customers = "model.jaffle_shop.orders", "model.jaffle_shop.customers"
    assert Played(made["shop"]).states()["seed.jaffle_shop.raw_orders"] == "success"
    assert Played(made["flaky"]).entries()[orders].message == "deadlock detected"
    assert Played(made["flaky"]).states()[customers] == "success"
    doubtful = Played(made["doubtful"])
    assert "a line of a Python model\n" in doubtful.log
    assert doubtful.states()["test.jaffle_shop.late_customers"] == "warn"
    assert Played(made["killed"]).exit_code == 137
    assert Played(made["unparsable"]).exit_code == 2


def test_batches_and_other_commands_end_as_is_scripted():
    place = Path("dags/dbt/metered_shop/target")
    place.mkdir(parents=True)
    usage = "model.metered_shop.daily_usage"
    days = {"incremental_strategy": "microbatch", "batch_size": "day", "begin": "2026-01-01"}
    written(place, resource(usage, config={"materialized": "incremental", **days}))
    made = run(COMMANDS)
    times = ("--event-time-start", "2026-01-01", "--event-time-end", "2026-01-03")
    assert Played(made["one_day_fails"], *BUILD, *times).states()[usage] == "partial success"
    assert Played(made["one_day_fails"], *BUILD, *times).states()[usage] == "success"
    assert "granted to 3 tables" in Played(made["granted"], "run-operation", "grant_select").log
    assert Played(made["no_docs"], "docs", "generate").exit_code == 2
    assert Played(made["no_docs"], "docs", "generate").exit_code == 0


def test_the_assertions_hold_for_a_run_with_a_retry():
    flaky = run(SCRIPTS)["flaky"]
    first = Played(flaky, *BUILD, "--vars", '{"batch": "batch-1"}')
    result = first.entries()["model.jaffle_shop.orders"]
    Played(flaky, *BUILD, "--select", "orders", "customers", "--indirect-selection", "empty")
    found = DagRun(
        "shop",
        "failed",
        {"build.orders": "failed"},
        nodes={result.unique_id: result},
        pods=[None, None],
        commands=flaky.commands,
        log_of=lambda task_id: "deadlock detected",
    )
    run(CHECK + "\ncheck(run)\n", run=found)


def test_every_method_of_the_script_is_in_the_table():
    from dbt_watch.testing import FakeDbt  # noqa: PLC0415 - beside what it is compared with

    documented = set(re.findall(r"^\| `(?:FakeDbt\.)?(\w+)\(", PAGE, re.MULTILINE))
    own = {name for name in vars(FakeDbt) if not name.startswith("_")} - {"image", "runs_on", "commands"}
    assert own <= documented


def create_pod(kube, image, *arguments):
    """Run dbt in a pod, and return what became of it."""
    container = {"name": "base", "image": image, "command": ["dbt"], "args": list(arguments)}
    pod = {
        "metadata": {"generateName": "dbt-"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    headers = {"Authorization": f"Bearer {kube.token}"}
    with httpx.Client(base_url=kube.url, verify=False, headers=headers, trust_env=False) as client:  # noqa: S501 - loopback
        client.post("/api/v1/namespaces/dbt/pods", json=pod).raise_for_status()
        deadline = time.monotonic() + 240
        while (fact := kube.pods()[-1]).finished_at is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        status = client.get(f"/api/v1/namespaces/dbt/pods/{fact.name}").json()["status"]
    return status["containerStatuses"][0]["state"]["terminated"]


def test_it_stands_for_an_image(monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/dev/null")
    run(
        ON_LOCALKUBE.replace("    ...  #", "    create_pod(kube)  #"),
        create_pod=lambda kube: create_pod(
            kube, "registry.example/shop-dbt:1.4", "build", "--project-dir", "/usr/app/shop"
        ),
    )


@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_a_pod_that_runs_out_of_memory_is_killed_by_the_kernel(isolation):
    from dbt_watch.local.localkube import LocalKube  # noqa: PLC0415 - it takes a while

    killed = run(SCRIPTS)["killed"]
    with LocalKube({"*": killed.image()}, namespaces=None, isolation=isolation) as kube:
        killed.runs_on(kube)
        ended = create_pod(kube, "any/image", "build")
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
    (command,) = killed.commands
    assert command.exit_code is None
    assert "model.jaffle_shop.orders" in command.ended
    assert "model.jaffle_shop.customers" not in command.ended
