"""Where artifacts go, and how the results of several runs of dbt become one."""

import json

import pytest

from dbt_watch import Artifacts
from dbt_watch.core.artifacts import checked, merged, places
from dbt_watch.exceptions import ArgumentError

VALUES = {
    "dag_id": "shop", "run_id": "manual__2026-11-26T00:00:00+00:00", "group_id": "build",
    "task_id": "build.dbt_build", "map_index": -1, "attempt": 2,
}  # fmt: skip
RUN = "manual__2026-11-26T00:00:00+00:00"


def where(to, **more):
    label = more.pop("label", "")
    return places(checked("artifacts", to), {**VALUES, **more}, label=label)


def test_an_attempt_has_a_directory_and_so_has_its_run_and_what_outlives_runs():
    found = where("s3://lake/dbt/{dag_id}/{run_id}/{attempt}/")
    assert found.attempt == f"s3://lake/dbt/shop/{RUN}/2"
    assert found.run == f"s3://lake/dbt/shop/{RUN}"
    assert found.kept == "s3://lake/dbt/shop/last_success/build"


def test_without_a_word_in_braces_each_attempt_of_each_project_has_a_directory():
    assert where("s3://lake/dbt").attempt == f"s3://lake/dbt/shop/{RUN}/build/2"
    assert where("/var/dbt/").run == f"/var/dbt/shop/{RUN}/build"
    assert where("/var/dbt/").kept == "/var/dbt/shop/last_success/build"


def test_one_of_several_tasks_that_run_dbt_has_a_directory_of_its_own():
    assert where("s3://lake/{dag_id}/{run_id}", label="orders").attempt == f"s3://lake/shop/{RUN}/orders"
    own = where("s3://lake/{run_id}/{task_id}", task_id="build.orders", label="orders")
    assert (own.attempt, own.run) == (f"s3://lake/{RUN}/build.orders", f"s3://lake/{RUN}")


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "..", ".", "a?b#c d", "ü"])
def test_no_id_of_a_run_leads_elsewhere(run_id):
    found = where("s3://lake/{dag_id}/{run_id}/{attempt}", run_id=run_id)
    parts = found.attempt.split("/")
    assert len(parts) == 6
    assert parts[4] not in {".", ".."}
    assert set(parts[4]) <= set("._abcdet")


def test_a_mapped_project_keeps_its_elements_apart():
    with pytest.raises(ArgumentError, match=r"a URL with \{map_index\} in it"):
        checked("artifacts", "s3://lake/{run_id}", is_mapped=True)
    added = checked("artifacts", "s3://lake", is_mapped=True)
    assert places(added, {**VALUES, "map_index": 3}).attempt.endswith("/build/2/3")
    assert places(added, {**VALUES, "map_index": 3}).kept.endswith("/last_success/build.3")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("target", "the URL of a directory"),
        (7, "the URL of a directory"),
        (Artifacts("relative/{run_id}"), "the URL of a directory"),
        ("s3://lake/{dag_id}/{attempt}", "one run would overwrite the files of another"),
        ("s3://lake/{run}", "no placeholders other than dag_id, run_id"),
        ("s3://{run_id}/dbt", "a URL whose bucket is the same for all runs"),
    ],
)
def test_a_place_that_would_not_do_is_refused(value, words):
    with pytest.raises(ArgumentError, match=words):
        checked("artifacts", value)


def test_what_is_checked_twice_stays_the_same():
    once = checked("artifacts", Artifacts("s3://lake", manifest=True))
    assert checked("artifacts", once) == once
    assert checked("artifacts", None) is None


def test_the_files_that_are_asked_for():
    assert Artifacts("s3://lake").names == ("run_results.json",)
    everything = Artifacts("s3://lake", manifest=True, catalog=True, sources=True, compiled=True)
    assert everything.names == (
        "run_results.json", "sources.json", "manifest.json", "catalog.json", "index.html", "compiled.tar",
    )  # fmt: skip


def results(at, seconds, **statuses):
    found = [{"unique_id": f"model.shop.{name}", "status": status} for name, status in statuses.items()]
    metadata = {"generated_at": at, "invocation_id": at}
    return json.dumps({"metadata": metadata, "elapsed_time": seconds, "results": found}).encode()


def test_of_several_results_the_last_one_of_each_node_counts():
    first = results("2026-11-26T01:00:00Z", 2.0, orders="success", customers="error")
    second = results("2026-11-26T02:00:00Z", 1.5, customers="success", revenue="success")
    whole = json.loads(merged([second, b"no JSON", b"[]", b'{"metadata": {}, "results": [1]}', first]))
    assert {item["unique_id"]: item["status"] for item in whole["results"]} == {
        "model.shop.orders": "success", "model.shop.customers": "success", "model.shop.revenue": "success",
    }  # fmt: skip
    assert whole["metadata"]["invocation_id"] == "2026-11-26T02:00:00Z"
    assert whole["elapsed_time"] == 3.5


def test_of_no_results_there_are_none():
    assert json.loads(merged([]))["results"] == []
