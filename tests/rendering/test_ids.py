"""Task ids are legal, distinct and stable, whatever a node is called."""

import re

from hypothesis import given
from hypothesis import strategies as st

from dbt_watch.core.manifest.graph import Node
from dbt_watch.rendering.task_ids import MAX_LENGTH, node_task_id, suffixed

LEGAL = re.compile(r"^[\w.-]+$")


def node(name, *, resource_type="model", package="shop", version=None):
    unique_id = f"{resource_type}.{package}.{name}" + (f".v{version}" if version else "")
    return Node(
        unique_id=unique_id, name=name, resource_type=resource_type, package_name=package, version=version
    )


def test_what_ref_finds_bears_its_own_name():
    for resource_type in ("model", "seed", "snapshot"):
        assert node_task_id(node("orders", resource_type=resource_type), "shop") == "orders"


def test_versions_are_told_apart_from_names_that_look_like_them():
    ids = {
        node_task_id(item, "shop") for item in (node("a", version=2), node("a__v2"), node("a_v2"), node("a"))
    }
    assert len(ids) == 4
    assert "a.v2" in ids


def test_models_of_one_name_in_two_packages_have_two_ids():
    assert node_task_id(node("orders"), "shop") == "orders"
    assert node_task_id(node("orders", package="stripe"), "shop") == "stripe.orders"


def test_tables_of_one_name_in_two_sources_have_two_ids():
    def table(source, name):
        unique_id = f"source.shop.{source}.{name}"
        return Node(unique_id, name, "source", "shop", source_name=source)

    tables = (
        table("raw", "orders"),
        table("web", "orders"),
        table("raw.web", "orders"),
        table("raw", "web"),
    )
    ids = [node_task_id(item, "shop") for item in tables]
    assert ids[:2] == ["source.raw.orders", "source.web.orders"]
    assert len(set(ids)) == 4
    assert all(LEGAL.match(task_id) for task_id in ids)


def test_a_model_named_like_a_task_of_ours_gives_way():
    assert node_task_id(node("dbt_build"), "shop") not in {"dbt_build", "tests"}
    assert node_task_id(node("tests"), "shop") not in {"dbt_build", "tests"}


def test_a_test_never_shares_an_id_with_a_model():
    assert node_task_id(node("orders", resource_type="test"), "shop") != node_task_id(node("orders"), "shop")


@given(st.text(min_size=1, max_size=5_000))
def test_any_name_gives_a_legal_id_of_bounded_length(name):
    task_id = suffixed(node_task_id(node(name), "shop"), "test", "x")
    assert LEGAL.match(task_id)
    assert len(task_id) <= MAX_LENGTH


@given(st.sets(st.text(alphabet="ab .$(/\n\x1b'\"é", min_size=1, max_size=8), min_size=2, max_size=12))
def test_different_names_give_different_ids(names):
    assert len({node_task_id(node(name), "shop") for name in names}) == len(names)
