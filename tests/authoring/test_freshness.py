"""Sources that are checked for freshness: their tasks, and how dbt is asked for them."""

import json
from pathlib import Path

import pytest

from dbt_watch import NodeResult, dbt_build, dbt_k8s_project, dbt_node
from dbt_watch.core.command import dbt_arguments
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.selection.run_time import narrowed
from dbt_watch.exceptions import ArgumentError, SelectionError

CUSTOMERS, ORDERS, PAYMENTS, COUNTRIES = (
    f"source.landed_shop.landing.{name}" for name in ("customers", "orders", "payments", "countries")
)
CHECKED = tuple(f"source:landed_shop.landing.{name}" for name in ("customers", "orders", "payments"))


@pytest.fixture
def manifest(landed_shop):
    return landed_shop / "target/manifest.json"


@pytest.fixture
def make(dag, manifest):
    def make(build=None, **overrides):
        settings = {
            "manifest": manifest,
            "image": "shop:1",
            "group_id": "build",
            "freshness": "before",
            **overrides,
        }
        return dbt_k8s_project(**settings)(lambda: build)()

    return make


@pytest.fixture
def changed(manifest, tmp_path):
    """Return the manifest with changes."""

    def changed(change):
        content = json.loads(manifest.read_text())
        change(content)
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(content))
        return path

    return changed


def upstream(dag, task_id):
    return {task.removeprefix("build.") for task in dag.task_dict[f"build.{task_id}"].upstream_task_ids}


def test_by_default_no_source_is_checked(dag, make):
    project = make(freshness="none")
    assert ORDERS not in project.nodes
    assert not project.producer.selection.sources
    assert project.producer.cmds == ["dbt"]


def test_a_source_that_a_node_reads_has_a_task_before_it_and_its_tests(dag, make):
    make()
    assert upstream(dag, "source.landing.orders") == set()
    assert upstream(dag, "source.landing.orders.test") == {"source.landing.orders"}
    assert upstream(dag, "orders") == {"source.landing.orders.test"}
    assert upstream(dag, "customers") == {"source.landing.customers"}
    task = dag.task_dict["build.source.landing.orders"]
    assert task.unique_ids == (ORDERS,)
    assert task.operator_name == "dbt source"
    assert "`models/_landing.yml`" in task.doc_md


def test_what_an_ephemeral_model_reads_counts_as_read(dag, make):
    make()
    assert upstream(dag, "order_payments") == {"orders", "source.landing.payments"}


def test_a_source_without_a_policy_is_not_checked(dag, make):
    project = make()
    assert set(project.nodes) >= {CUSTOMERS, ORDERS, PAYMENTS}
    assert COUNTRIES not in project.nodes
    assert COUNTRIES in project.sources
    assert project.producer.selection.sources == CHECKED


@pytest.mark.parametrize("freshness", ["none", "before"])
def test_what_an_ephemeral_model_reads_is_among_the_sources_of_a_project(make, freshness):
    assert set(make(freshness=freshness).sources) == {CUSTOMERS, ORDERS, PAYMENTS, COUNTRIES}
    assert set(make(freshness="none", select="order_payments", group_id="one").sources) == {PAYMENTS}


def test_only_sources_that_the_selection_reads_itself_are_checked(dag, make):
    project = make(select="orders revenue")
    assert [uid for uid in project.nodes if uid.startswith("source.")] == [ORDERS]


@pytest.mark.parametrize(
    ("tests", "task_id"),
    [
        ("after_each", "source.landing.orders.test"),
        ("build", "source.landing.orders"),
        ("after_all", "tests"),
    ],
)
def test_the_tests_of_a_source_go_where_all_tests_go(dag, make, tests, task_id):
    make(tests=tests)
    test = next(uid for uid in dag.task_dict[f"build.{task_id}"].unique_ids if "source_not_null" in uid)
    assert test.startswith("test.")


def test_without_tests_only_the_sources_are_left(dag, make):
    make(tests="none")
    assert upstream(dag, "orders") == {"source.landing.orders"}


def test_sources_lie_in_the_group_of_their_folder_or_tag(dag, make):
    make(group_by="folder")
    assert dag.task_dict["build.source.landing.orders"].task_group.label == "models"


def test_both_commands_stand_one_after_the_other_with_a_number_in_front(dag, make):
    project = make(dbt_build(vars={"a": 1}, target="prod", full_refresh=True, flags=["--warn-error"]))
    producer = project.producer
    count, *arguments = dbt_arguments(producer.build, producer.selection, project_dir="/shop")
    check, build = arguments[: int(count)], arguments[int(count) :]
    shared = ["--project-dir", "/shop", "--target", "prod", "--vars", "$(DBT_WATCH_VARS)"]
    assert check[-len(CHECKED) - 1 :] == ["--select", *CHECKED]
    assert [word for word in check if word in {"source", "freshness", "build"}] == ["source", "freshness"]
    assert "build" in build
    for command in (check, build):
        assert [word for word in command if word in shared] == shared
        assert command[:2] == ["--log-format", "json"]
    assert {"--full-refresh", "--warn-error"} <= set(build)
    assert not {"--full-refresh", "--warn-error"} & set(check)


def test_an_entrypoint_that_is_kept_gets_the_shell_with_both_commands_as_its_arguments(dag, make):
    make(keep_entrypoint=True)
    producer = dag.task_dict["build.dbt_build"]
    words = dbt_arguments(producer.build, producer.selection)
    assert not producer.cmds
    assert words[:2] == ["/bin/sh", "-c"]
    name, count = words[3:5]
    assert name == "dbt"
    assert "source" in words[5 : 5 + int(count)]
    assert "build" in words[5 + int(count) :]


def test_only_sources_are_checked_without_a_shell_and_nothing_is_built(dag, make):
    project = make(freshness="only")
    assert set(project.nodes) == {CUSTOMERS, ORDERS, PAYMENTS}
    assert project.producer.cmds == ["dbt"]
    arguments = dbt_arguments(project.producer.build, project.producer.selection)
    assert arguments[-6:] == ["source", "freshness", "--select", *CHECKED]


def test_the_sources_to_check_can_be_selected(dag, make):
    project = make(freshness="only", select="source:landing", exclude="source:landing.orders")
    assert set(project.nodes) == {CUSTOMERS, PAYMENTS}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"freshness": "after"}, "freshness='after': expected one of 'none', 'before', 'only'"),
        ({"on_stale": "warn"}, "on_stale='warn': expected one of 'fail', 'skip'"),
        ({"freshness": "only", "on_stale": "skip"}, "on_stale='skip': expected freshness=\"before\" as well"),
        ({"freshness": "none", "on_stale": "skip"}, "on_stale='skip': expected freshness=\"before\" as well"),
        ({"select": "countries"}, "freshness='before': expected a selection that reads from a source with a freshness policy"),
        ({"freshness": "only", "select": "source:landing.countries"}, "matches at least one source with a freshness policy"),
        ({"freshness": "only", "select": "customers"}, "matches at least one source with a freshness policy"),
        ({"cmds": []}, "freshness='before': expected cmds with the command that runs dbt"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_while_the_dag_is_parsed(make, arguments, message):
    with pytest.raises(ArgumentError) as caught:
        make(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["or.ders", "or ders", "orders+", "caf\u00e9", "or*"])
@pytest.mark.parametrize("freshness", ["before", "only"])
def test_a_source_that_dbt_cannot_be_asked_for_is_refused(make, changed, name, freshness):
    path = changed(lambda content: content["sources"][ORDERS].update(name=name))
    with pytest.raises(
        SelectionError, match=r"freshness='landed_shop.landing.*': expected source names of ASCII letters"
    ):
        make(manifest=path, freshness=freshness)


@pytest.mark.parametrize("is_default", [True, False])
def test_a_selection_by_selector_becomes_one_that_an_exclude_goes_with(make, changed, is_default):
    selector = {"name": "some", "definition": {"method": "fqn", "value": "orders"}, "default": is_default}
    path = changed(lambda content: content.update(selectors={"some": selector}))
    selection = make(manifest=path, selector=None if is_default else "some", tests="none").producer.selection
    assert selection.selector is None
    assert [word.split(",")[0] for word in selection.select] == ["fqn:landed_shop.orders"]
    assert selection.sources == ("source:landed_shop.landing.orders",)


def test_sources_of_one_table_name_have_two_ids_and_a_model_of_that_name_keeps_its_own(dag, make, changed):
    def add(content):
        content["sources"]["source.landed_shop.shop.orders"] = {
            **content["sources"][ORDERS], "unique_id": "source.landed_shop.shop.orders", "source_name": "shop",
        }  # fmt: skip
        content["nodes"]["model.landed_shop.orders"]["depends_on"]["nodes"].append(
            "source.landed_shop.shop.orders"
        )

    project = make(manifest=changed(add))
    assert project["landing.orders"].task_id == "source.landing.orders"
    assert project["shop.orders"].task_id == "source.shop.orders"
    assert project["orders"].unique_id == "model.landed_shop.orders"


@pytest.mark.parametrize("node", ["landing.orders", "source:landing.orders", ORDERS])
def test_a_function_can_be_bound_to_a_source(dag, make, manifest, node):
    @dbt_k8s_project(manifest=manifest, image="shop:1", freshness="before")
    def build():
        @dbt_node(node, after="node")
        def look(result: NodeResult): ...

        look()

    build()
    assert dag.task_dict[
        "build.look" if ":" not in node else "build.look.source.landing.orders"
    ].upstream_task_ids == {"build.source.landing.orders"}


def test_a_source_can_be_checked_for_a_function_without_a_project(dag, manifest):
    @dbt_node("landing.orders", manifest=manifest, image="shop:1", freshness="only")
    def look(result: NodeResult): ...

    look()
    assert set(dag.task_dict) == {"look.dbt_build", "look.source.landing.orders", "look.look"}


def narrow(project, **options):
    producer = project.producer
    return narrowed(producer.graph, producer.selected, producer.selection, options)


def test_a_run_of_a_part_checks_what_this_part_reads(make):
    left = narrow(make(), select="orders+")
    assert [uid for uid in sorted(left.nodes) if uid.startswith("source.")] == [ORDERS, PAYMENTS]
    assert left.selection.sources == CHECKED[1:]
    assert left.selection.builds
    assert {result.unique_id for result in left.left_out} >= {CUSTOMERS, "model.landed_shop.customers"}


def test_a_run_of_a_part_may_check_nothing(make):
    left = narrow(make(), select="countries")
    assert left.nodes == {"model.landed_shop.countries"}
    assert not left.selection.sources


def test_a_check_alone_can_be_narrowed_too(make):
    left = narrow(make(freshness="only"), select="source:landing.orders")
    assert (left.nodes, left.selection.sources, left.selection.builds) == ({ORDERS}, CHECKED[1:2], False)


def test_the_graph_of_the_example_knows_which_sources_have_a_policy(manifest):
    graph = load_manifest(manifest)
    assert {uid for uid, node in graph.nodes.items() if node.has_freshness} == {CUSTOMERS, ORDERS, PAYMENTS}
    assert Path(graph.nodes[ORDERS].path).name == "_landing.yml"
