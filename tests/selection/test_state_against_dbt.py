"""What is modified since an earlier manifest, here and by dbt's own comparison, for one change after the other."""

import copy
import json
from argparse import Namespace
from types import SimpleNamespace

import pytest

from dbt_watch.core.selection.state import VALUES, StateComparison, decode_state, reduced

ORDERS, CUSTOMERS = "model.jaffle_shop.orders", "model.jaffle_shop.stg_customers"
SEED = "seed.jaffle_shop.raw_orders"


def node(unique_id, **values):
    return lambda manifest: manifest["nodes"][unique_id].update(values)


def unrendered(unique_id, **values):
    return lambda manifest: manifest["nodes"][unique_id]["unrendered_config"].update(values)


def each_test(manifest):
    for item in manifest["nodes"].values():
        if item["resource_type"] == "test":
            item["unrendered_config"]["severity"] = "warn"
            item["raw_code"] += " "


def project_macros(manifest):
    for unique_id, macro in manifest["macros"].items():
        if unique_id.startswith("macro.jaffle_shop."):
            macro["macro_sql"] += " "


def deep_macro(manifest):
    manifest["macros"]["macro.dbt.should_full_refresh"]["macro_sql"] += " "


def unit_tests(manifest):
    for item in manifest["unit_tests"].values():
        item["checksum"] = "another"


def persisted(manifest):
    manifest["nodes"][ORDERS]["config"]["persist_docs"] = {"relation": True, "columns": True}
    manifest["nodes"][ORDERS]["description"] = "another"


CHANGES = {
    "nothing": lambda manifest: None,
    "code": node(ORDERS, raw_code="select 1"),
    "checksum": node(ORDERS, checksum={"name": "sha256", "checksum": "a"}),
    "seed": node(SEED, checksum={"name": "sha256", "checksum": "a"}),
    "description": node(ORDERS, description="another"),
    "persisted": persisted,
    "folder": node(ORDERS, fqn=["jaffle_shop", "other", "orders"]),
    "access": node(ORDERS, access="public"),
    "materialized": unrendered(ORDERS, materialized="incremental"),
    "tags": unrendered(ORDERS, tags=["a"]),
    "meta": unrendered(ORDERS, meta={"a": 1}),
    "schema": unrendered(ORDERS, schema="other"),
    "alias": unrendered(CUSTOMERS, alias="other"),
    "hook": unrendered(CUSTOMERS, **{"pre-hook": ["select 1"]}),
    "a new model": lambda manifest: manifest["nodes"].pop(ORDERS),
    "tests": each_test,
    "unit tests": unit_tests,
    "macros": project_macros,
    "a deep macro": deep_macro,
}


@pytest.fixture(scope="module")
def manifest(project):
    return json.loads((project / "target/manifest.json").read_text())


@pytest.fixture(scope="module")
def dbt():
    """The classes of dbt that compare."""
    from dbt.artifacts.schemas.manifest import WritableManifest  # noqa: PLC0415 - seconds
    from dbt.contracts.graph.manifest import Manifest  # noqa: PLC0415
    from dbt.flags import set_from_args  # noqa: PLC0415
    from dbt.graph.selector_methods import StateSelectorMethod  # noqa: PLC0415

    set_from_args(Namespace(state_modified_compare_more_unrendered_values=False), None)

    def read(content):
        return Manifest.from_writable_manifest(WritableManifest.from_dict(json.loads(content)))

    return SimpleNamespace(read=read, method=StateSelectorMethod)


@pytest.fixture(scope="module")
def now(dbt, manifest):
    return dbt.read(json.dumps(manifest))


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_selected_by_state_is_what_dbt_selects(dbt, manifest, now, change):
    before = copy.deepcopy(manifest)
    CHANGES[change](before)
    content = json.dumps(before)
    earlier = SimpleNamespace(manifest=dbt.read(content))
    sections = ("nodes", "sources", "unit_tests", "exposures", "metrics", "semantic_models", "saved_queries")
    everything = [unique_id for section in sections for unique_id in manifest.get(section) or ()]
    compared = StateComparison(
        decode_state(json.dumps(manifest).encode(), location="now"),
        decode_state(content.encode(), location="before"),
    )
    for value in VALUES:
        if (
            value == "modified.contract"
        ):  # dbt raises for breaking changes, and passes over the unenforced ones
            continue
        method = dbt.method(now, earlier, [])
        assert set(compared.find("state", value, everything)) == set(method.search(set(everything), value)), (
            value
        )


def test_dbt_reads_what_is_left_of_a_manifest(dbt, manifest):
    small = dbt.read(reduced(json.dumps(manifest).encode(), location="x"))
    for unique_id, item in small.nodes.items():
        assert item.relation_name == manifest["nodes"][unique_id]["relation_name"]
    assert ORDERS in small.nodes
