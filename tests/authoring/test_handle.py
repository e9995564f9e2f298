"""What a project hands back: nodes, sources, results."""

import json

import pytest
from airflow.sdk import task

from dbt_watch.rendering.results import ProjectResults

SOURCE = {
    "unique_id": "source.jaffle_shop.shop.orders",
    "name": "orders",
    "source_name": "shop",
    "resource_type": "source",
    "package_name": "jaffle_shop",
    "fqn": ["jaffle_shop", "shop", "orders"],
    "path": "models/sources.yml",
    "original_file_path": "models/sources.yml",
    "config": {"enabled": True},
}


@pytest.fixture
def with_source(project, tmp_path):
    """Return the example's manifest with a source that the staged orders read."""
    manifest = json.loads((project / "target/manifest.json").read_text())
    manifest["sources"][SOURCE["unique_id"]] = SOURCE
    manifest["nodes"]["model.jaffle_shop.stg_orders"]["depends_on"]["nodes"].append(SOURCE["unique_id"])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def test_the_sources_are_those_that_the_selected_nodes_read(dag, decorate, with_source):
    read = decorate(group_id="build", manifest=with_source)(lambda: None)()
    assert list(read.sources) == [SOURCE["unique_id"]]
    assert read.sources[SOURCE["unique_id"]].source_name == "shop"
    unread = decorate(group_id="seeds", manifest=with_source, select="raw_orders")(lambda: None)()
    assert not unread.sources


def test_the_nodes_are_a_mapping_by_unique_id_that_nobody_changes(dag, decorate):
    project = decorate(group_id="build", select="+stg_orders", tests="none")(lambda: None)()
    assert set(project.nodes) == {"seed.jaffle_shop.raw_orders", "model.jaffle_shop.stg_orders"}
    assert project.nodes["model.jaffle_shop.stg_orders"] is project["stg_orders"]
    with pytest.raises(TypeError):
        project.nodes["x"] = None


def test_a_task_that_takes_all_results_waits_for_the_run_and_for_nothing_else(dag, decorate, serialized):
    @task
    def report(results): ...

    project = decorate(group_id="build")(lambda: None)()
    report(project.results)
    assert dag.task_dict["report"].upstream_task_ids == {"build.dbt_build"}
    assert isinstance(project.results, ProjectResults)
    first, second = (json.dumps(serialized(dag), sort_keys=True, default=str) for _ in range(2))
    assert first == second
    assert "ProjectResults(build)" in first


def test_the_tasks_at_the_end_are_the_producer_and_what_is_bound(dag, decorate):
    project = decorate(group_id="build")(lambda: None)()
    assert [item.task_id for item in project.leaves] == ["build.dbt_build"]


def test_results_are_those_of_the_same_run_inside_of_a_mapped_project_and_of_all_outside(dag, decorate):
    @decorate(group_id="build")
    def build(region): ...

    class Instance:
        dag_id = "shop"
        run_id = "today"
        map_index = 1

        def __init__(self, task):
            self.task = task

        def get_ti_count(self, **which):
            assert which == {"dag_id": "shop", "run_ids": ["today"], "task_ids": ["build.dbt_build"]}
            return 3

    @task
    def report(): ...

    results = build.expand(region=["a", "b", "c"]).results
    report()
    assert results._map_indexes(Instance(dag.task_dict["build.dbt_build"])) == [1]
    assert results._map_indexes(Instance(dag.task_dict["report"])) == [0, 1, 2]
