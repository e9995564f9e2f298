"""`dbt-watch report` of runs on a real Airflow: what failed, what was retried, one instance of many, and what a person did later."""

import pytest

from dbt_watch.cli import main
from dbt_watch.core.labels import label_of
from dbt_watch.reporting.dag_runs import TOKEN_VARIABLE
from dbt_watch.reporting.run_record import record_in


@pytest.fixture
def report(airflow, monkeypatch, capsys, tmp_path):
    """Return a function that reports on a run as a person does, and checks what else is written of it."""
    airflow.client.get("dags", limit=1)  # which logs in
    token = airflow.client._http.headers["Authorization"].removeprefix("Bearer ")
    monkeypatch.setenv(TOKEN_VARIABLE, token)

    def report(run, *arguments, status=0):
        page = tmp_path / "report.html"
        given = ["report", "--dag-run", run.dag_id, run.run_id, "--airflow", airflow.url, *arguments]
        assert main([*given, "--format", "json", "--html", str(page)]) == status
        told = capsys.readouterr()
        if status:
            return told.err
        assert main(given) == 0
        summary = capsys.readouterr().out
        record = record_in(told.out)
        assert all(cause.title in summary for cause in record.causes)
        assert page.read_text().startswith("<!doctype html>")
        return record

    return report


def states(record):
    return {node.name: node.state for node in record.nodes}


def test_a_run_that_failed_is_reported_with_its_culprit_first_as_the_producers_log_has_it(run_of, report):
    run = run_of("broken_for_good")
    record = report(run)
    (cause,) = record.causes
    assert (record.outcome, cause.title) == ("failure", "orders: error")
    assert {node.unique_id for node in record.nodes if node.state == "skipped"} == set(cause.blocked)
    (orders,) = [node for node in record.nodes if node.unique_id == cause.node]
    assert "order_totl" in orders.message
    assert orders.sql
    lines = run.log("shop.dbt_build", until="not built because of it").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"model {cause.title}: "))
    assert any(
        line.startswith(f"not built because of it: {len(cause.blocked)} nodes, ") for line in lines[first:]
    )
    assert not any("Task failed" in line for line in lines[:first])


def test_a_task_whose_node_was_not_built_says_first_which_node_broke_it(run_of):
    run = run_of("broken_for_good")
    lines = run.log("shop.customers", until="customers: not built").splitlines()
    own = [line for line in lines if line.startswith(("failed: ", "model customers"))]
    assert own[0] == "failed: customers: not built: upstream `orders` failed"


def test_a_run_that_was_retried_is_reported_with_what_each_attempt_built(run_of, report):
    run = run_of("retried")
    record = report(run)
    assert (record.outcome, record.causes) == ("success", ())
    assert set(states(record)) == {label_of(node["unique_id"]) for node in run.results()}
    attempts = {node.name: node.attempt for node in record.nodes}
    assert (attempts["raw_orders"], attempts["orders"]) == (1, 2)
    assert [command.label for command in record.commands] == ["attempt 1", "attempt 2"]


def test_of_a_mapped_project_an_instance_is_asked_for_and_reported_alone(run_of_example, report):
    run = run_of_example("one_region_fails")
    assert "--map-index=None: expected one of 0, 1: the project is mapped" in report(run, status=2)
    well, failed = (report(run, "--map-index", str(index)) for index in (0, 1))
    assert (well.outcome, well.causes) == ("success", ())
    assert (failed.outcome, [cause.title for cause in failed.causes]) == ("failure", ["stg_orders: error"])
    assert set(states(well)) == set(states(failed)) == {"raw_orders", "stg_orders"}
