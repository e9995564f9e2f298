"""The state of the last good run: found, compared with, put into variables of the pod, and kept."""

import base64
import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest

from dbt_watch.authoring.artifact_script import BEGINNING, STATE
from dbt_watch.exceptions import ArgumentError
from dbt_watch.producers import state_store
from dbt_watch.producers.state_store import CHUNK, MAX_CHUNKS, State, keep, nothing

ORDERS = "model.shop.orders"


def manifest(code="select 1", name="orders"):
    node = {"resource_type": "model", "raw_code": code, "config": {}, "name": name, "unique_id": ORDERS}
    return json.dumps({"metadata": {"dbt_schema_version": "v12"}, "nodes": {ORDERS: node}}).encode()


def results(at, **statuses):
    found = [{"unique_id": f"model.shop.{name}", "status": status} for name, status in statuses.items()]
    return json.dumps({"metadata": {"generated_at": at}, "results": found}).encode()


@pytest.fixture
def place(tmp_path):
    return f"file://{tmp_path}/last_success/build"


@pytest.fixture
def parsed(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_bytes(manifest())
    return str(path)


def kept(place, parsed, at, **more):
    files = {
        "run_results.json": results(at, orders="success"),
        "manifest.json": manifest(name="in the pod"),
        **more,
    }
    keep(place, parsed, files, run_id=f"run at {at}", attempt=1, at=at)


def modified(comparison):
    return comparison.find("state", "modified", [ORDERS])


def test_what_was_kept_is_found_and_compared_with(place, parsed):
    assert State.find(place) is None
    kept(place, parsed, "2026-11-26T01:00:00+00:00")
    found = State.find(place)
    assert found.since == "run at 2026-11-26T01:00:00+00:00 of 2026-11-26T01:00:00+00:00"
    comparison = found.comparison(parsed)
    assert modified(comparison) == []
    assert comparison.find("result", "success", [ORDERS]) == [ORDERS]
    Path(parsed).write_bytes(manifest("select 2"))
    assert modified(State.find(place).comparison(parsed)) == [ORDERS]


def test_the_dags_own_manifest_is_compared_and_names_come_from_the_pods(place, parsed):
    kept(place, parsed, "2026-11-26T01:00:00+00:00")
    (text,) = State.find(place).variables().values()
    small = json.loads(gzip.decompress(base64.b64decode(text)))
    assert small["nodes"][ORDERS]["name"] == "in the pod"


def test_a_state_is_switched_to_when_it_is_whole_and_the_one_before_the_last_is_removed(
    place, parsed, tmp_path, monkeypatch
):
    directory = tmp_path / "last_success/build"
    for hour in (1, 2):
        kept(place, parsed, f"2026-11-26T0{hour}:00:00+00:00")
    before = State.find(place).directory

    def refuse(place, content):
        if place.endswith("run_results.json"):
            raise PermissionError("no")
        return write(place, content)

    write = state_store.write
    monkeypatch.setattr(state_store, "write", refuse)
    with pytest.raises(PermissionError):
        kept(place, parsed, "2026-11-26T03:00:00+00:00")
    assert State.find(place).directory == before
    monkeypatch.setattr(state_store, "write", write)
    kept(place, parsed, "2026-11-26T04:00:00+00:00")
    assert not list(directory.glob("2026-11-26T0100*/*"))
    assert list(directory.glob("2026-11-26T0200*/*"))


def test_results_of_earlier_runs_stay_for_what_a_run_has_not_built(place, parsed):
    kept(place, parsed, "2026-11-26T01:00:00Z")
    kept(
        place,
        parsed,
        "2026-11-26T02:00:00Z",
        **{"run_results.json": results("2026-11-26T02:00:00Z", customers="success")},
    )
    comparison = State.find(place).comparison(parsed)
    assert comparison.find("result", "success", [ORDERS, "model.shop.customers"]) == [
        ORDERS,
        "model.shop.customers",
    ]


@pytest.mark.parametrize("name", ["", "/manifest.json"])
def test_a_directory_with_a_manifest_is_a_state_too(tmp_path, parsed, name):
    found = State.find(f"{tmp_path}{name}")
    assert modified(found.comparison(parsed)) == []
    assert State.find(f"{tmp_path}/nowhere{name}") is None


def test_without_a_state_all_is_new(parsed):
    assert modified(nothing(parsed)) == [ORDERS]


def test_a_project_that_is_too_large_for_variables_is_refused(tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_bytes(manifest())
    monkeypatch.setattr(state_store, "reduced", lambda *_, **__: os.urandom(CHUNK * MAX_CHUNKS))
    with pytest.raises(
        ArgumentError, match="defer=True: expected a project whose relation names fit into 700,000"
    ):
        State.find(str(tmp_path)).variables()


def test_a_shell_puts_the_variables_together_for_dbt(tmp_path, monkeypatch):
    content = json.dumps({"nodes": base64.b64encode(os.urandom(200_000)).decode()}).encode()
    (tmp_path / "manifest.json").write_bytes(manifest())
    monkeypatch.setattr(state_store, "reduced", lambda *_, **__: content)
    variables = State.find(str(tmp_path)).variables()
    assert len(variables) == 3
    script = f'{BEGINNING}\n{STATE}\ncat "$DBT_STATE/manifest.json"; env >&2'
    ended = subprocess.run(
        ["/bin/sh", "-c", script], env={**os.environ, **variables}, capture_output=True, check=True
    )
    assert ended.stdout == content
    assert b"DBT_WATCH_STATE_" not in ended.stderr
    assert b"DBT_ENGINE_STATE=" in ended.stderr


def test_the_earlier_sources_reach_dbt_with_or_without_the_names_of_relations(tmp_path):
    (tmp_path / "manifest.json").write_bytes(manifest())
    (tmp_path / "sources.json").write_bytes(b"earlier")
    state = State.find(str(tmp_path))
    script = f'{BEGINNING}\n{STATE}\ncd "$DBT_STATE" && ls && cat sources.json; env >&2'
    for defers, names in ((True, "manifest.json\nsources.json"), (False, "sources.json")):
        variables = state.variables(defers=defers, compares_sources=True)
        ended = subprocess.run(
            ["/bin/sh", "-c", script], env={**os.environ, **variables}, capture_output=True, check=True
        )
        assert ended.stdout.decode() == f"{names}\nearlier"
        assert b"DBT_WATCH_S" not in ended.stderr
