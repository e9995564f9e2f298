"""Small manifests for the tests of reading and selecting: only what the tests are about is spelled out."""

from __future__ import annotations

from typing import Any

SECTIONS = {
    "source": "sources",
    "exposure": "exposures",
    "metric": "metrics",
    "semantic_model": "semantic_models",
    "saved_query": "saved_queries",
    "unit_test": "unit_tests",
    "function": "functions",
}


def manifest(
    *resources: dict[str, Any], version: int = 12, dbt: str = "1.12.6", **sections: Any
) -> dict[str, Any]:
    """Return a manifest.json as data."""
    content: dict[str, Any] = {
        "metadata": {
            "dbt_schema_version": f"https://schemas.getdbt.com/dbt/manifest/v{version}.json",
            "dbt_version": dbt,
            "project_name": "shop",
            "adapter_type": "duckdb",
        },
        "nodes": {},
        "sources": {},
        "macros": {},
        **sections,
    }
    for resource in resources:
        section = content.setdefault(SECTIONS.get(resource["resource_type"], "nodes"), {})
        section[resource["unique_id"]] = resource
    return content


def resource(unique_id: str, *parents: str, path: str | None = None, **values: Any) -> dict[str, Any]:
    """Return one resource; `config` is added to, everything else is replaced."""
    kind, package, *rest = unique_id.split(".")
    name = rest[0] if kind == "test" or rest[-1].startswith("v") else rest[-1]
    path = path or f"{kind}s/{name}.sql"
    config = {"enabled": True, "materialized": "view", **values.pop("config", {})}
    return {
        "unique_id": unique_id,
        "name": name,
        "resource_type": kind,
        "package_name": package,
        "fqn": [package, *path.split("/")[1:-1], *rest],
        "original_file_path": path,
        "tags": config.get("tags", []),
        "depends_on": {"nodes": list(parents)},
        "config": config,
        "raw_code": "select 1",
        **values,
    }


def generic_test(unique_id: str, *tested: str, kind: str = "not_null", **values: Any) -> dict[str, Any]:
    """Return a generic test of some nodes."""
    config = {"materialized": "test", "severity": "ERROR", **values.pop("config", {})}
    return resource(
        unique_id, *tested, test_metadata={"name": kind}, config=config, path="models/schema.yml", **values
    )
