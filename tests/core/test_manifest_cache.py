"""A manifest is decoded once: the next time its graph comes from the process, or from the disk."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from manifest_builder import generic_test, manifest, resource

from dbt_watch.core.manifest import cache as graph_cache
from dbt_watch.core.manifest import load as reading
from dbt_watch.core.manifest.load import load_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from dbt_watch.core.manifest.graph import Graph

CONTENT = manifest(
    resource("model.shop.a", config={"meta": {"dbt_watch": {"task": "x"}, "level": 1}, "tags": ["é"]}),
    resource("model.shop.b.v1", "model.shop.a", version=1, latest_version=1),
    generic_test("test.shop.t.abc", "model.shop.a"),
    selectors={"nightly": {"name": "nightly", "definition": {"method": "tag", "value": "nightly"}}},
    disabled={"model.shop.gone": [{"package_name": "shop", "original_file_path": "models/gone.sql"}]},
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    directory = tmp_path / "cache"
    monkeypatch.setenv("DBT_WATCH_CACHE_DIR", str(directory))
    reading._IN_PROCESS.clear()
    return directory


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(CONTENT), encoding="utf-8")
    return path


@pytest.fixture
def decoded(monkeypatch):
    """Count how often a manifest is really decoded."""
    calls = []
    original = reading.graph_of
    monkeypatch.setattr(reading, "graph_of", lambda content: calls.append(1) or original(content))
    return calls


def load_as_a_new_process(path: Path) -> Graph:
    reading._IN_PROCESS.clear()
    return load_manifest(path)


def as_data(graph: Graph) -> tuple[object, ...]:
    return graph.facts, dict(graph.nodes), graph.configs, graph.disabled


def test_a_second_read_in_the_process_gives_the_same_graph(path, decoded):
    assert load_manifest(path) is load_manifest(path)
    assert len(decoded) == 1


def test_a_new_process_reads_the_same_graph_from_the_disk(path, decoded):
    first = load_manifest(path)
    assert as_data(load_as_a_new_process(path)) == as_data(first)
    assert len(decoded) == 1


def test_a_changed_file_is_read_again(path, decoded):
    load_manifest(path)
    status = path.stat()
    # the same size, and the old time set back: only the inode tells
    path.write_text(json.dumps(CONTENT).replace("model.shop.gone", "model.shop.away"), encoding="utf-8")
    # whose own time goes on in ticks of some milliseconds
    while path.stat().st_ctime_ns == status.st_ctime_ns or path.stat().st_mtime_ns != status.st_mtime_ns:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "model.shop.away" in load_manifest(path).disabled
    assert "model.shop.away" in load_as_a_new_process(path).disabled
    assert len(decoded) == 2


def test_a_replaced_file_is_read_again(path, decoded):
    load_manifest(path)
    other = path.with_name("other.json")
    other.write_text(json.dumps(manifest(resource("model.shop.new"))), encoding="utf-8")
    other.replace(path)
    assert list(load_as_a_new_process(path).nodes) == ["model.shop.new"]


def test_another_version_of_the_library_reads_again(path, decoded, monkeypatch):
    load_manifest(path)
    monkeypatch.setattr(graph_cache, "FORMAT", graph_cache.FORMAT + 1)
    load_as_a_new_process(path)
    assert len(decoded) == 2


def test_a_damaged_cache_is_ignored_and_written_anew(path, cache, decoded):
    expected = as_data(load_manifest(path))
    [file] = cache.iterdir()
    content = file.read_bytes()
    rng = random.Random(0)
    damages = [b"", content[:20], content[:-1], content + b"x"]
    for _ in range(60):
        position = rng.randrange(len(content))
        damages.append(
            content[:position] + bytes([content[position] ^ 1 << rng.randrange(8)]) + content[position + 1 :]
        )
    for damaged in damages:
        file.write_bytes(damaged)
        assert as_data(load_as_a_new_process(path)) == expected
        assert file.read_bytes() == content
    assert len(decoded) == 1 + len(damages)


def test_only_its_owner_can_enter_the_cache(path, cache):
    load_manifest(path)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in cache.iterdir()] == [0o600]


def test_a_directory_that_others_can_write_to_is_not_used(path, cache):
    cache.mkdir()
    cache.chmod(0o777)
    assert load_manifest(path).nodes
    assert list(cache.iterdir()) == []


def test_a_link_in_place_of_a_cache_file_is_not_followed(path, cache, tmp_path, decoded):
    load_manifest(path)
    [file] = cache.iterdir()
    elsewhere = tmp_path / "elsewhere"
    file.replace(elsewhere)
    file.symlink_to(elsewhere)
    load_as_a_new_process(path)
    assert len(decoded) == 2
    assert not file.is_symlink()


def test_without_a_place_to_write_a_manifest_is_read_all_the_same(path, cache, decoded):
    cache.write_text("a file in the way", encoding="utf-8")
    assert load_manifest(path).nodes
    assert load_as_a_new_process(path).nodes
    assert len(decoded) == 2


def test_a_disk_that_cannot_be_written_is_no_error(path, cache, decoded):
    cache.mkdir(mode=0o700)
    cache.chmod(0o500)
    try:
        assert load_manifest(path).nodes
    finally:
        cache.chmod(0o700)


def test_the_cache_can_be_switched_off(path, cache, decoded, monkeypatch):
    monkeypatch.setenv("DBT_WATCH_CACHE_DIR", "")
    load_manifest(path)
    load_as_a_new_process(path)
    assert len(decoded) == 2
    assert not cache.exists()


@pytest.fixture
def no_place_named(tmp_path, monkeypatch):
    """Let nothing name the directory but what the test sets; a fallback lands below `tmp_path`."""
    for name in ("DBT_WATCH_CACHE_DIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(graph_cache.tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms keep caches elsewhere")
@pytest.mark.parametrize(
    ("variable", "place"), [("XDG_CACHE_HOME", "dbt_watch"), ("HOME", ".cache/dbt_watch")]
)
@pytest.mark.usefixtures("no_place_named")
def test_the_cache_lies_with_the_users_other_caches(path, tmp_path, monkeypatch, capfd, variable, place):
    monkeypatch.setenv(variable, str(tmp_path / "own"))
    load_manifest(path)
    assert len(list((tmp_path / "own" / place).iterdir())) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("no_place_named")
def test_who_has_no_home_has_a_private_directory_among_the_temporary_files(path, tmp_path, monkeypatch):
    def no_home(*_, **__):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(graph_cache.platformdirs, "user_cache_path", no_home)
    load_manifest(path)
    [directory] = (tmp_path / "tmp").iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert len(list(directory.iterdir())) == 1


def test_the_cache_does_not_grow_without_end_and_leaves_other_files_alone(tmp_path, cache):
    cache.mkdir(mode=0o700)
    foreign = [cache / "notes.txt", cache / "x.graph"]
    for file in foreign:
        file.touch()
        os.utime(file, (0, 0))
    for number in range(graph_cache._MOST_FILES + 10):
        path = tmp_path / f"manifest_{number}.json"
        path.write_text(json.dumps(manifest()), encoding="utf-8")
        load_manifest(path)
    assert all(file.exists() for file in foreign)
    assert len(list(cache.iterdir())) == graph_cache._MOST_FILES + len(foreign)


def test_an_object_store_without_a_version_of_its_files_is_always_asked(cache, decoded):
    sdk_io = pytest.importorskip("airflow.sdk.io")
    sdk_io.attach("memory", fs=pytest.importorskip("fsspec").filesystem("memory"))
    path = sdk_io.ObjectStoragePath("memory://bucket/cached.json")
    path.write_bytes(json.dumps(CONTENT).encode())
    first = load_manifest(path)
    path.write_bytes(json.dumps(manifest()).encode())
    assert first.nodes
    assert not load_manifest(path).nodes


READ_ALL_THE_TIME = """
import sys
from dbt_watch.core.manifest import load as manifest
for _ in range(30):
    manifest._IN_PROCESS.clear()
    graph = manifest.load_manifest(sys.argv[1])
    assert len(graph.nodes) in (3, 200), len(graph.nodes)
"""


def test_many_processes_may_read_while_another_writes_the_manifest(path, cache):
    readers = [subprocess.Popen([sys.executable, "-c", READ_ALL_THE_TIME, str(path)]) for _ in range(3)]
    large = json.dumps(manifest(*(resource(f"model.shop.m{number}") for number in range(200))))
    small = json.dumps(CONTENT)
    turn = 0
    while any(reader.poll() is None for reader in readers):
        turn += 1
        draft = path.with_name("draft.json")
        draft.write_text(large if turn % 2 else small, encoding="utf-8")
        draft.replace(path)
    assert [reader.wait() for reader in readers] == [0, 0, 0]
    assert not [file for file in cache.iterdir() if file.suffix == ".part"]
