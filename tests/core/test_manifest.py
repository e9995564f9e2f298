"""A manifest becomes a graph, and what is not a manifest is refused with a reason."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from manifest_builder import generic_test, manifest, resource

from dbt_watch.core.manifest.load import decode_manifest, load_manifest
from dbt_watch.exceptions import ManifestError

if TYPE_CHECKING:
    from pathlib import Path

SHOP = manifest(
    resource("seed.shop.raw", raw_code=""),
    resource("model.shop.orders", "seed.shop.raw", "source.shop.web.clicks"),
    resource("model.shop.accounts.v1", "model.shop.orders", version=1, latest_version=2),
    resource("model.shop.accounts.v2", "model.shop.orders", version=2, latest_version=2),
    resource("model.shop.accounts.v3", "model.shop.orders", version=3, latest_version=2),
    resource("model.shop.blank", raw_code=" \n\t"),
    resource("model.shop.off", config={"enabled": False}),
    resource("model.kit.orders", description="the kit's"),
    resource("source.shop.web.clicks", source_name="web", config={"tags": ["pii"]}),
    generic_test("test.shop.not_null_orders_id.abc", "model.shop.orders", attached_node="model.shop.orders"),
    resource("unit_test.shop.orders.counts", "model.shop.orders", config={"tags": "nightly"}),
    disabled={"model.shop.gone": [{"package_name": "shop", "original_file_path": "models/gone.sql"}]},
)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("DBT_WATCH_CACHE_DIR", "")


def write(directory: Path, content: object) -> Path:
    path = directory / "manifest.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_a_manifest_becomes_a_graph(tmp_path):
    graph = load_manifest(write(tmp_path, SHOP))
    assert (graph.project_name, graph.facts.dbt_version) == ("shop", "1.12.6")
    orders = graph.nodes["model.shop.orders"]
    assert (orders.name, orders.path, orders.materialized) == ("orders", "models/orders.sql", "view")
    assert graph.parents("model.shop.orders") == ("seed.shop.raw", "source.shop.web.clicks")
    assert graph.child_map["seed.shop.raw"] == ("model.shop.orders",)
    test = graph.nodes["test.shop.not_null_orders_id.abc"]
    assert (test.test_name, test.attached_node) == ("not_null", "model.shop.orders")
    assert graph.nodes["unit_test.shop.orders.counts"].tags == ("nightly",)
    assert json.loads(graph.configs[orders.config_index])["materialized"] == "view"


def test_a_disabled_resource_is_not_in_the_graph_and_is_no_parent(tmp_path):
    graph = load_manifest(
        write(tmp_path, manifest(*SHOP["nodes"].values(), resource("model.shop.x", "model.shop.off")))
    )
    assert "model.shop.off" not in graph.nodes
    assert "model.shop.off" in graph.disabled
    assert graph.parents("model.shop.x") == ()
    with pytest.raises(KeyError):
        graph.parents("model.shop.off")


def test_a_model_is_empty_when_its_file_holds_only_blanks(tmp_path):
    graph = load_manifest(write(tmp_path, SHOP))
    assert [node.name for node in graph.nodes.values() if node.is_empty] == ["blank"]


@pytest.mark.parametrize("code", ["\u00a0", "\u2028\n", "", "\\n"])
def test_blanks_are_what_python_calls_blanks(code):
    graph = decode_manifest(
        json.dumps(manifest(resource("model.shop.a", raw_code=code))).encode(), location="m"
    )
    assert graph.nodes["model.shop.a"].is_empty == (not code.strip())


def test_versions_are_told_apart(tmp_path):
    graph = load_manifest(write(tmp_path, SHOP))
    status = {name: graph.nodes[f"model.shop.accounts.{name}"].version_status for name in ("v1", "v2", "v3")}
    assert status == {"v1": "old", "v2": "latest", "v3": "prerelease"}
    assert graph.nodes["model.shop.orders"].version_status == "none"
    assert graph.nodes["seed.shop.raw"].version_status is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("orders", ["model.shop.orders", "model.kit.orders"]),
        ("kit.orders", ["model.kit.orders"]),
        ("model.shop.orders", ["model.shop.orders"]),
        ("accounts.v2", ["model.shop.accounts.v2"]),
        ("shop.accounts.v2", ["model.shop.accounts.v2"]),
        ("accounts", ["model.shop.accounts.v1", "model.shop.accounts.v2", "model.shop.accounts.v3"]),
        ("web.clicks", ["source.shop.web.clicks"]),
        ("nothing", []),
    ],
)
def test_a_resource_is_found_by_the_names_that_people_use(name, found):
    graph = decode_manifest(json.dumps(SHOP).encode(), location="m")
    assert [node.unique_id for node in graph.find(name)] == found


def test_meta_for_this_library_is_kept_and_no_other():
    ours = {"owner": "ann", "dbt_watch": {"task": "x"}}
    graph = decode_manifest(
        json.dumps(
            manifest(
                resource("model.shop.a", config={"meta": ours}),
                resource("model.shop.b", meta=ours),
                resource("model.shop.c", meta={"owner": "dbt_watch"}),
            )
        ).encode(),
        location="m",
    )
    assert [node.meta for node in graph.nodes.values()] == [
        {"dbt_watch": {"task": "x"}},
        {"dbt_watch": {"task": "x"}},
        {},
    ]


def test_paths_of_windows_have_slashes():
    content = manifest(resource("model.shop.a", path="models\\a\\a.sql", patch_path="shop://models\\a.yml"))
    node = decode_manifest(json.dumps(content).encode(), location="m").nodes["model.shop.a"]
    assert (node.path, node.patch_path) == ("models/a/a.sql", "models/a.yml")


def test_a_byte_order_mark_is_passed_over():
    assert decode_manifest(b"\xef\xbb\xbf" + json.dumps(SHOP).encode(), location="m").nodes


RUN_RESULTS = {
    "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json"},
    "results": [],
}
DAMAGED = manifest(resource("model.shop.a", fqn="not a list"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (json.dumps(SHOP).encode()[:-100], "is cut off after"),
        (b"select 1", "not JSON"),
        (gzip.compress(b"{}"), "not compressed"),
        (b"[]", "not from dbt"),
        (b'{"a": 1}', "not from dbt"),
        (b"null", "not from dbt"),
        (b"[" * 100_000, "not from dbt"),
        (b'{"metadata": {"dbt_version": "\xff\xfe"}}', "not from dbt"),
        (RUN_RESULTS, "run-results"),
        (manifest(version=11), "dbt 1.8 or later .*v11"),
        (manifest(version=13), "v13.* newer dbt_watch"),
        (DAMAGED, r"damaged: .*fqn"),
        ({"metadata": SHOP["metadata"]}, "damaged: .*nodes"),
    ],
)
def test_what_is_not_a_manifest_is_refused_with_the_reason(tmp_path, content, words):
    path = write(tmp_path, content)
    with pytest.raises(ManifestError, match=words) as caught:
        load_manifest(path, argument="my_manifest")
    assert str(caught.value).startswith(f"my_manifest={str(path)!r}: expected ")


def test_every_truncation_of_a_manifest_is_refused():
    content = json.dumps(manifest(resource("model.shop.a", config={"tags": ["x"]}))).encode()
    for length in range(len(content)):
        with pytest.raises(ManifestError):
            decode_manifest(content[:length], location="m")


def test_a_missing_file_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManifestError, match="No such file") as caught:
        load_manifest("target/manifest.json")
    assert str(tmp_path / "target" / "manifest.json") in str(caught.value)


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"directory; dbt writes `target/manifest.json`"):
        load_manifest(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    pipe = tmp_path / "manifest.json"
    os.mkfifo(pipe)
    with pytest.raises(ManifestError, match="a regular file"):
        load_manifest(pipe)


@pytest.mark.parametrize("location", ["", "  "])
def test_a_blank_location_is_refused(location):
    with pytest.raises(ManifestError, match="the path or URL"):
        load_manifest(location)


def test_a_file_url_is_a_path(tmp_path):
    directory = tmp_path / "with blank"
    directory.mkdir()
    path = write(directory, SHOP)
    assert load_manifest(path.as_uri()).nodes


def test_a_manifest_is_read_from_an_object_store():
    sdk_io = pytest.importorskip("airflow.sdk.io")
    sdk_io.attach("memory", fs=pytest.importorskip("fsspec").filesystem("memory"))
    path = sdk_io.ObjectStoragePath("memory://bucket/manifest.json")
    path.write_bytes(json.dumps(SHOP).encode())
    assert load_manifest("memory://bucket/manifest.json").nodes.keys() == load_manifest(path).nodes.keys()
    with pytest.raises(ManifestError, match="FileNotFoundError"):
        load_manifest("memory://bucket/nothing.json")


def test_an_unknown_store_is_refused():
    pytest.importorskip("airflow.sdk")
    with pytest.raises(ManifestError, match="carrierpigeon"):
        load_manifest("carrierpigeon://bucket/manifest.json")


def test_reading_and_selecting_import_no_airflow(tmp_path):
    code = (
        "import sys; from dbt_watch.core.manifest.load import load_manifest; from dbt_watch.core.selection import select_nodes;"
        "select_nodes(load_manifest(sys.argv[1])); print('airflow' in sys.modules)"
    )
    path = write(tmp_path, SHOP)
    assert subprocess.check_output([sys.executable, "-c", code, str(path)], text=True).strip() == "False"
