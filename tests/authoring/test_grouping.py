"""Groups within a project's group: by folder or by tag, with the same ids."""

import pytest

from dbt_watch.exceptions import ArgumentError


@pytest.fixture
def made(dag, decorate):
    def made(group_by):
        @decorate(group_id="build", group_by=group_by)
        def build(): ...

        build()
        return dag

    return made


def group_names(task, path=()):
    group = task.task_group
    while group is not None and group.group_id not in {None, "build"}:
        path = (group.label, *path)
        group = group.parent_group
    return path


def test_folders_become_groups_as_the_files_lie(made, serialized):
    dag = made("folder")
    places = {
        task_id: group_names(dag.task_dict[f"build.{task_id}"])
        for task_id in ("orders", "orders.test", "stg_orders", "raw_orders", "dbt_build")
    }
    assert places == {
        "orders": ("models", "marts"),
        "orders.test": ("models", "marts"),
        "stg_orders": ("models", "staging"),
        "raw_orders": ("seeds",),
        "dbt_build": (),
    }
    assert dag.task_dict["build.orders"].task_display_name == "orders"
    assert serialized(dag)


def test_a_tag_becomes_a_group(made, graph):
    dag = made("tag")
    for node in graph.nodes.values():
        if node.resource_type == "model":
            assert group_names(dag.task_dict[f"build.{node.name}"]) == node.tags[:1]


def test_ids_and_edges_do_not_depend_on_the_grouping(project, decorate):
    def edges(group_by):
        from datetime import datetime  # noqa: PLC0415

        from airflow.sdk import DAG  # noqa: PLC0415

        with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
            decorate(group_id="build", group_by=group_by)(lambda: None)()
        return {item.task_id: item.upstream_task_ids for item in dag.tasks}

    assert edges("none") == edges("folder") == edges("tag")


def test_an_unknown_grouping(decorate):
    with pytest.raises(ArgumentError, match="group_by='path': expected one of 'none', 'folder', 'tag'"):
        decorate(group_by="path")
