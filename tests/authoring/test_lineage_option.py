"""What an author says of lineage, and what the task that runs dbt learns of it."""

import pytest

from dbt_watch import DbtLineage, dbt_api_project
from dbt_watch.exceptions import ArgumentError
from dbt_watch.lineage.settings import LineageSource


def producer_of(decorate, **options):
    def shop(): ...

    return decorate(**options)(shop)().producer


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, DbtLineage()),
        ({"lineage": True}, DbtLineage()),
        ({"lineage": DbtLineage(conn_id="warehouse")}, DbtLineage(conn_id="warehouse")),
        ({"lineage": DbtLineage(namespace="bigquery")}, DbtLineage(namespace="bigquery")),
    ],
)
def test_the_task_that_runs_dbt_knows_the_manifest_and_where_the_datasets_are(
    dag, decorate, project, options, settings
):
    source = LineageSource(str(project / "target/manifest.json"), settings)
    assert producer_of(decorate, **options).lineage == source


def test_where_none_is_wanted_it_knows_nothing(dag, decorate):
    assert producer_of(decorate, lineage=False).lineage is None


def test_a_project_that_a_server_runs_has_the_same_option(dag, project):
    @dbt_api_project(project / "target/manifest.json", lineage=DbtLineage(namespace="bigquery"))
    def shop(): ...

    assert shop().producer.lineage.settings == DbtLineage(namespace="bigquery")


@pytest.mark.parametrize("value", [None, "yes", {"namespace": "bigquery"}, DbtLineage])
def test_anything_else_is_refused_by_its_name(decorate, value):
    with pytest.raises(ArgumentError, match=r"^lineage=.*: expected True, False or DbtLineage\(\.\.\.\)"):
        decorate(lineage=value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"namespace": ""}, r"DbtLineage\(namespace\)"),
        ({"conn_id": 7}, r"DbtLineage\(conn_id\)"),
        ({"namespace": "bigquery", "conn_id": "warehouse"}, r"DbtLineage\(conn_id\)"),
    ],
)
def test_so_is_what_stands_in_it(arguments, named):
    with pytest.raises(ArgumentError, match=named):
        DbtLineage(**arguments)
