"""The columns of a manifest."""

import json

import pytest

from dbt_watch.core.manifest.columns import Column, columns_at, columns_in

MANIFEST = {
    "nodes": {
        "model.shop.orders": {
            "columns": {"id": {"name": "id", "data_type": "int", "description": "The key."}, "b": {}}
        },
        "model.shop.plain": {"columns": {}},
    },
    "sources": {"source.shop.raw.orders": {"columns": {"id": {"name": "id", "description": None}}}},
}
FOUND = {
    "model.shop.orders": (Column("id", "int", "The key."), Column("b")),
    "source.shop.raw.orders": (Column("id"),),
}


def test_columns_have_names_types_and_descriptions():
    assert columns_in(json.dumps(MANIFEST).encode()) == FOUND


@pytest.mark.parametrize("content", [b"", b"[]", b'{"nodes": 1}', b'{"nodes": {"a": {"columns": [1]}}}'])
def test_what_is_no_manifest_has_none(content):
    assert columns_in(content) == {}


def test_a_local_manifest_is_read_and_one_in_an_object_store_is_not_fetched(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))
    assert columns_at(str(path)) == columns_at(f"file://{path}") == FOUND
    path.unlink()
    assert columns_at(str(path)) == {}
    assert columns_at("s3://bucket/manifest.json") == {}
