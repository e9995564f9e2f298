"""What is written of dbt's artifacts, where, and what is said of the rest."""

import gzip
import json
import logging
from types import SimpleNamespace

import pytest
from dbt_words import BEGINNING, said

from dbt_watch import Artifacts
from dbt_watch.core.artifacts import checked
from dbt_watch.core.log.enclosed_files import MARK, RESULTS, EnclosedFiles, lines_of
from dbt_watch.core.results import NodeInfo
from dbt_watch.producers import artifact_store
from dbt_watch.producers.artifact_store import ArtifactStore
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.pods import files_again
from dbt_watch.producers.pods.files_again import read_files

ORDERS = "model.shop.orders"


def results(at="2026-11-26T01:00:00Z", **statuses):
    found = [{"unique_id": f"model.shop.{name}", "status": status} for name, status in statuses.items()]
    return json.dumps({"metadata": {"generated_at": at, "invocation_id": "one"}, "results": found}).encode()


def files_of(**contents):
    files = EnclosedFiles()
    for name, content in contents.items():
        files.sift(
            [*lines_of(name.replace("_json", ".json").replace("_tar", ".tar"), gzip.compress(content))]
        )
    return files


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact_store, "PAUSE", 0.0)

    def store(to="{dag_id}/{run_id}/{attempt}", *, attempt=1, label="", **wanted):
        ti = SimpleNamespace(
            dag_id="shop", run_id="one", task_id="build.dbt_build", map_index=-1, try_number=attempt
        )
        artifacts = checked("artifacts", Artifacts(f"file://{tmp_path}/{to}", **wanted))
        return ArtifactStore(artifacts, ti, group_id="build", label=label)

    return store


def test_files_are_written_as_dbt_wrote_them_and_an_archive_compressed(store, tmp_path):
    files = files_of(run_results_json=results(orders="success"), manifest_json=b"{}", compiled_tar=b"tar")
    written = store(manifest=True, compiled=True).keep(files)
    place = tmp_path / "shop/one/1"
    assert {path.name for path in place.iterdir()} == {"run_results.json", "manifest.json", "compiled.tar.gz"}
    assert set(written) == {path.name for path in place.iterdir()}
    assert gzip.decompress((place / "compiled.tar.gz").read_bytes()) == b"tar"
    assert (place / "run_results.json").read_bytes() == results(orders="success")


def statuses_in(path):
    return {item["unique_id"][11:]: item["status"] for item in json.loads(path.read_bytes())["results"]}


def test_the_results_of_attempts_and_parts_become_one_for_the_run(store, tmp_path):
    store().keep(files_of(run_results_json=results(orders="error", customers="skipped")))
    later = results("2026-11-26T02:00:00Z", orders="success", customers="success")
    store(attempt=2).keep(files_of(run_results_json=later))
    store(label="revenue").keep(files_of(run_results_json=results(revenue="success")))
    assert statuses_in(tmp_path / "shop/one/run_results.json") == {
        "orders": "success", "customers": "success", "revenue": "success",
    }  # fmt: skip
    assert statuses_in(tmp_path / "shop/one/1/revenue/run_results.json") == {"revenue": "success"}


def test_a_place_that_is_the_same_for_all_attempts_has_the_last_one(store, tmp_path):
    for attempt, status in ((1, "error"), (2, "success")):
        store("{run_id}", attempt=attempt).keep(files_of(run_results_json=results(orders=status)))
    assert statuses_in(tmp_path / "one/run_results.json") == {"orders": "success"}


def test_each_file_that_is_not_there_is_told_in_one_line(store, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    files = files_of(run_results_json=results(orders="success"))
    files.sift([MARK + b"catalog.json none `dbt docs generate` ended with 2"])
    assert set(store(catalog=True, sources=True).keep(files)) == {"run_results.json"}
    told = {record.getMessage() for record in caplog.records}
    assert "The artifact catalog.json was not kept: `dbt docs generate` ended with 2" in told
    assert "The artifact sources.json was not kept: the log does not mention it" in told


def test_of_a_pod_that_was_killed_one_line_says_that_there_is_nothing(store, caplog):
    caplog.set_level(logging.WARNING)
    assert store(manifest=True).keep(EnclosedFiles()) == {}
    assert [record.getMessage() for record in caplog.records] == [
        "No artifacts were kept: the log does not mention it"
    ]


def test_a_store_that_refuses_is_a_warning_and_no_more(store, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    tried = []

    def refuse(place, content):
        tried.append(place)
        raise PermissionError("no")

    monkeypatch.setattr(artifact_store, "write", refuse)
    assert store().keep(files_of(run_results_json=results(orders="success"))) == {}
    assert len(tried) == 3
    assert "failed (PermissionError: no)" in caplog.text


def watch(**more):
    node = NodeInfo("orders", "model", "table")
    return BuildWatch({ORDERS: node}, attempt=1, show=lambda _: None, **more)


def of_invocation(status):
    line = json.loads(said(ORDERS, "success"))
    metadata = {"invocation_id": line["info"]["invocation_id"]}
    return json.dumps({"metadata": metadata, "results": [{"unique_id": ORDERS, "status": status}]}).encode()


@pytest.mark.parametrize("status", ["success", "error"])
def test_a_node_that_the_log_left_open_is_settled_by_the_results_in_it(status):
    seen = watch(files=EnclosedFiles(only=RESULTS))
    enclosed = [*lines_of("run_results.json", gzip.compress(of_invocation(status)))]
    seen.take_lines([BEGINNING.encode(), *enclosed], True)
    seen.end(0 if status == "success" else 1)
    assert [entry.status for entry in seen.results] == [status]


def test_without_them_it_is_not_known_what_became_of_it():
    seen = watch()
    seen.take_lines([BEGINNING.encode()], True)
    seen.end(0)
    assert [entry.status for entry in seen.results] == ["not run"]


class Client:
    """An API that breaks off as often as it is told to."""

    def __init__(self, log, breaks=0):
        self.log, self.breaks, self.asked = log, breaks, []

    def read_namespaced_pod_log(self, **arguments):
        self.asked.append(arguments)
        broken = len(self.asked) <= self.breaks

        def stream(**_):
            yield self.log[:100]
            if broken:
                raise ConnectionError("cut")
            yield self.log[100:]

        return SimpleNamespace(stream=stream, release_conn=lambda: None)


def test_after_a_deferral_the_end_of_the_log_is_read_again_until_that_works(monkeypatch):
    monkeypatch.setattr(files_again, "PAUSE", 0.0)
    pod = SimpleNamespace(metadata=SimpleNamespace(name="dbt", namespace="default"))
    lines = [*lines_of("run_results.json", gzip.compress(bytes(range(256)) * 200))]
    client = Client(b"\n".join([b"before", *lines]), breaks=2)
    files = read_files(client, pod, "base", 7)
    assert files.content("run_results.json") == bytes(range(256)) * 200
    assert [asked["tail_lines"] for asked in client.asked] == [27, 27, 27]
    assert read_files(Client(b"", breaks=3), pod, "base", 7).found() == ([], {})
