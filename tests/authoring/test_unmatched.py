"""A part of a selection that matches nothing is warned of while the DAG is parsed, as dbt warns when it runs."""

import re
import subprocess
import sys
import warnings

import pytest

from dbt_watch import dbt_build, dbt_node
from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import SelectionError, SelectionWarning

WORDS = [
    "orders",
    "tag:nightyl",
    "custmers+",
    "tag:nightly,raw_orders",
    "path:models/mart",
    "source:raw.orders",
]


def warned(caught):
    return [str(item.message) for item in caught if item.category is SelectionWarning]


@pytest.mark.parametrize("argument", ["select", "exclude"])
def test_each_part_that_matches_nothing_is_warned_of_at_the_decorated_function(dag, decorate, argument):
    @decorate(**{argument: "orders tag:nightyl custmers+"})
    def build(): ...

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build()
    words = "The selection criterion '{}' does not match any enabled nodes; did you mean {}?"
    assert warned(caught) == [
        f"{argument}: {words.format('tag:nightyl', 'tag:nightly')}",
        f"{argument}: {words.format('custmers+', 'customers, stg_customers, raw_customers')}",
    ]
    place = next(item for item in caught if item.category is SelectionWarning)
    assert (place.filename, place.lineno) == (__file__, build.__wrapped__.__code__.co_firstlineno)


def test_a_selection_that_matches_throughout_is_no_warning(dag, decorate):
    @decorate(select="orders+ tag:nightly", exclude="customers")
    def build(): ...

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build()
    assert not warned(caught)


def test_all_that_matches_nothing_is_an_error_with_what_is_near(dag, decorate):
    @decorate(select="tag:nightyl")
    def build(): ...

    with pytest.raises(SelectionError, match="did you mean tag:nightly"):
        build()


def test_sources_that_match_nothing_are_warned_of_too(dag, decorate, landed_shop):
    @decorate(
        manifest=landed_shop / "target/manifest.json", freshness="only", select=["source:*", "source:nowhere"]
    )
    def build(): ...

    with pytest.warns(SelectionWarning, match="'source:nowhere'"):
        build()


def test_a_bound_function_for_nodes_of_which_some_match_nothing(dag, decorate):
    @decorate()
    def build():
        @dbt_node(select=["orders", "custmers"])
        def check(result): ...

        check()

    with pytest.warns(SelectionWarning, match="'custmers' .*did you mean customers"):
        build()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"select": "custmers"}, "select='custmers': expected a selection that matches .*; did you mean customers"),
        ({"select": ["tag:nightyl"]}, "select='tag:nightyl': expected .*did you mean tag:nightly"),
        ({"select": "raw_customers"}, "select='raw_customers': expected a selection that matches at least one node"),
        ({"exclude": "orders+ test_type:unit"}, "exclude='orders.* test_type:unit': expected"),
        ({"select": "custmers", "exclude": "{{ params.without }}"}, "select='custmers': expected"),
        ({"select": "{{ params.only }}", "exclude": "orders+ test_type:unit"}, "exclude='orders"),
    ],
)  # fmt: skip
def test_what_dbt_build_selects_is_refused_while_the_dag_is_parsed_when_it_leaves_nothing(
    dag, decorate, options, words
):
    @decorate(select="orders+")
    def build():
        return dbt_build(**options)

    with pytest.raises(SelectionError, match=words):
        build()


@pytest.mark.parametrize(
    "options", [{"select": "{{ params.only }}"}, {"select": ["orders", "{{ params.only }}"]}, {"select": ""}]
)
def test_what_dbt_build_selects_by_a_template_is_left_for_the_run(dag, decorate, options):
    @decorate()
    def build():
        return dbt_build(**options)

    with warnings.catch_warnings():
        warnings.simplefilter("error", SelectionWarning)
        build()


def test_a_part_of_what_dbt_build_selects_that_matches_nothing_is_warned_of(dag, decorate):
    @decorate()
    def build():
        return dbt_build(select="orders custmers")

    with pytest.warns(SelectionWarning, match="select: .*'custmers' .*did you mean customers"):
        build()


def test_a_worker_that_runs_one_task_is_not_told(dag, decorate, monkeypatch):
    @decorate(select="orders tag:nightyl")
    def build(): ...

    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "shop")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "build.orders")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build()
    assert not warned(caught)


def test_airflow_collects_the_warning_of_a_dag_file(tmp_path, project):
    try:
        from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # noqa: PLC0415
    path = tmp_path / "a_dag.py"
    path.write_text(f"""
from datetime import datetime
from airflow.sdk import DAG
from dbt_watch import dbt_k8s_project

with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)):
    @dbt_k8s_project(manifest={str(project / "target/manifest.json")!r}, image="shop:1", select="orders tag:nightyl")
    def build(): ...
    build()
""")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        bag = DagBag(str(tmp_path), collect_dags=False)
        bag.process_file(str(path))
    assert not bag.import_errors
    (found,) = [
        text for texts in bag.captured_warnings.values() for text in texts if "SelectionWarning" in text
    ]
    assert found.startswith(f"{path}:7: ")
    assert "'tag:nightyl' does not match any enabled nodes" in found


@pytest.mark.newest  # no Airflow has a part in it
def test_dbt_warns_of_the_same_parts(project, graph):
    unmatched = []
    select_nodes(graph, select=WORDS, exclude=["nobody"], on_unmatched=unmatched.append, buildable_only=False)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "dbt.cli.main",
            "ls",
            "--profiles-dir",
            ".",
            "--select",
            *WORDS,
            "--exclude",
            "nobody",
        ],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=480,
        check=True,
    )
    by_dbt = re.findall(r"The selection criterion '(.*)' does not match any enabled nodes", done.stdout)
    assert by_dbt == [item.text for item in unmatched]
    assert by_dbt
