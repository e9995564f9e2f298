"""
What OpenLineage is told of a run, event by event beside what `dbt-ol` of openlineage-dbt has told of the same run.

`DIFFERENCES` has all that is different on purpose; docs/lineage.md has the same list. What is different otherwise fails.
"""

import re
from pathlib import Path

import pytest
import replayed

# Where, in an event of `dbt-ol --consume-structured-logs` or of ours, and why.
DIFFERENCES = {
    "a node that is skipped": "no event: it has not run (dbt-ol: START and ABORT)",
    "a single statement": "no event: the main one is the `sql` facet of its node (dbt-ol: START and COMPLETE of each)",
    "run id of dbt's run": "dbt's own invocation_id (dbt-ol: a random one)",
    "run id of a node": "made of invocation_id and node, the same whoever reads the log (dbt-ol: a random one)",
    "`dbt_version` facet": "not there: deprecated; `processing_engine` has it",
    "`processing_engine` facet": "`openlineageAdapterVersion` is the version of this library",
    "`dbt_run` facet": "without profile_name, project_version, dbt_runtime: neither log nor manifest has them",
    "`dbt_node` facet of a test": "without a table: a test has none",
    "`dbt_node` facet of a unit test": "there (dbt-ol: empty, and an `extractionError`)",
    "`jobType` of a unit test": "TEST (dbt-ol: none)",
    "`test` facet": "with dbt's SQL (dbt-ol: the Jinja source), and for unit tests too",
    "`sql` facet": "what was executed (dbt-ol: the compiled query, and only in its other mode)",
    "`errorMessage` facet of dbt's run": "the first failure and the number of nodes in each state",
    "`errorMessage` facet of a node": "without terminal colours",
    "`columnLineage` facet": "there (dbt-ol: only in its other mode)",
    "`outputStatistics` facet": "there, where the adapter reports rows or bytes (dbt-ol: only in its other mode)",
    "`dbt_model`, `dbt_exposures` facets": "not there",
    "an empty description of a column": "left out",
    "outputs of a test": "none: a test writes no table",
    "`dataQualityAssertions` facet": "of the input as well, where the specification has it",
    "columns of a snapshot that is new": "those that dbt adds: what is executed selects `*` (dbt-ol: those of the compiled query)",
    "inputs that are ephemeral": "what they read (dbt-ol: a table that does not exist)",
}


@pytest.fixture(scope="module")
def ours():
    return replayed.ours()


@pytest.fixture(scope="module")
def theirs():
    return replayed.theirs("structured")


def key(event):
    return (event["job"]["name"], event["eventType"])


def by_key(events):
    found = {key(event): event for event in events}
    assert len(found) == len(events)
    return found


def pairs(ours, theirs):
    mine, yours = by_key(ours), by_key(theirs)
    return [(mine[name], yours[name]) for name in mine.keys() & yours.keys()]


def plain(value):
    """Return a facet without who made it by which schema, and without what is empty."""
    if isinstance(value, dict):
        kept = {name: plain(item) for name, item in value.items() if name not in {"_producer", "_schemaURL"}}
        return {name: item for name, item in kept.items() if item not in ("", None, {}, [])}
    return [plain(item) for item in value] if isinstance(value, list) else value


def facets(event, of):
    return {name: plain(facet) for name, facet in event[of]["facets"].items()}


def datasets(event, side):
    return {(item["namespace"], item["name"]): item for item in event[side]}


def kind(event):
    return event["job"]["name"].partition(".")[0]


def test_the_events_are_those_of_dbt_ol_but_for_nodes_that_were_skipped(ours, theirs):
    skipped = {event["job"]["name"] for event in theirs if event["eventType"] == "ABORT"}
    assert skipped
    expected = {key(event) for event in theirs if event["job"]["name"] not in skipped}
    assert set(by_key(ours)) == expected
    states = {event["eventType"] for event in ours}
    assert states == {"START", "COMPLETE", "FAIL"}


def test_they_happen_at_the_same_times(ours, theirs):
    def moment(event):
        return re.sub(r"(\+00:00|Z)$", "", event["eventTime"])[:23]

    late = [
        key(mine)
        for mine, yours in pairs(ours, theirs)
        if moment(mine) != moment(yours) and "." in mine["job"]["name"]
    ]
    assert not late


def test_they_have_the_same_jobs_and_parents(ours, theirs):
    for mine, yours in pairs(ours, theirs):
        assert mine["job"]["namespace"] == yours["job"]["namespace"]
        parent, their_parent = facets(mine, "run")["parent"], facets(yours, "run")["parent"]
        assert parent["job"] == their_parent["job"]
        assert parent["root"] == their_parent["root"]
        if kind(mine).startswith("dbt-run"):
            assert parent["run"] == their_parent["run"]
        if kind(mine) != "unit_test":
            assert facets(mine, "job")["jobType"] == facets(yours, "job")["jobType"]
        else:
            assert facets(mine, "job")["jobType"]["jobType"] == "TEST"


def test_a_run_begins_and_ends_under_one_id_and_is_the_parent_of_its_nodes(ours):
    runs = {}
    for event in ours:
        runs.setdefault(event["job"]["name"], []).append(event["run"]["runId"])
    assert all(len(set(ids)) == 1 and len(ids) == 2 for ids in runs.values())
    assert len({ids[0] for ids in runs.values()}) == len(runs)
    (invocation,) = {facets(event, "run")["dbt_run"]["invocation_id"] for event in ours}
    assert runs["dbt-run-jaffle_shop"][0] == invocation
    parents = {
        facets(event, "run")["parent"]["run"]["runId"] for event in ours if "." in event["job"]["name"]
    }
    assert parents == {invocation}


def test_they_have_the_same_inputs_and_outputs(ours, theirs):
    for mine, yours in pairs(ours, theirs):
        assert datasets(mine, "inputs").keys() == datasets(yours, "inputs").keys(), key(mine)
        if kind(mine) == "test":
            assert not mine["outputs"]
        else:
            assert datasets(mine, "outputs").keys() == datasets(yours, "outputs").keys(), key(mine)


def test_the_facets_of_tables_are_the_same(ours, theirs):
    own = {"dbt_model", "dbt_exposures", "columnLineage", "dataQualityAssertions"}
    for mine, yours in pairs(ours, theirs):
        for side in ("inputs", "outputs"):
            known = datasets(yours, side)
            for name, item in datasets(mine, side).items():
                expected = {
                    name: plain(facet) for name, facet in known[name]["facets"].items() if name not in own
                }
                found = {name: plain(facet) for name, facet in item["facets"].items() if name not in own}
                assert found == expected, key(mine)


def test_test_results_are_the_same_assertions(ours, theirs):
    compared = 0
    for mine, yours in pairs(ours, theirs):
        known = datasets(yours, "inputs")
        for name, item in datasets(mine, "inputs").items():
            expected = plain(known[name]["facets"].get("dataQualityAssertions"))
            assert plain(item["facets"].get("dataQualityAssertions")) == expected, key(mine)
            assert plain(item["inputFacets"].get("dataQualityAssertions")) == expected, key(mine)
            compared += expected is not None
    assert compared > 10


def test_a_singular_test_has_the_same_facet_of_its_own_but_for_the_sql(ours, theirs):
    compared = set()
    for mine, yours in pairs(ours, theirs):
        if "test" in yours["run"]["facets"]:
            (found,), (expected,) = (
                facets(mine, "run")["test"]["tests"],
                facets(yours, "run")["test"]["tests"],
            )
            assert "dbt_internal_test" in found.pop("content")
            assert "ref(" in expected.pop("content")
            assert found == expected
            compared.add(found["status"])
    assert compared == {"pass", "fail"}


def test_other_facets_differ_as_the_table_says(ours, theirs):
    for mine, yours in pairs(ours, theirs):
        run, their_run = facets(mine, "run"), facets(yours, "run")
        assert run["dbt_run"].items() <= their_run["dbt_run"].items()
        for name in ("name", "version"):
            assert run["processing_engine"][name] == their_run["processing_engine"][name]
        tags = [tag for tag in their_run.get("tags", {}).get("tags", []) if tag["source"].startswith("DBT")]
        assert run.get("tags", {}).get("tags", []) == tags
        more = run.keys() - their_run.keys()
        assert more <= ({"test"} if kind(mine) == "unit_test" else set())
        assert their_run.keys() - run.keys() <= {"dbt_version", "extractionError", "tags"}
        if "." in mine["job"]["name"] and kind(mine) != "unit_test":
            node, their_node = facets(mine, "job")["dbt_node"], facets(yours, "job")["dbt_node"]
            without = {"database", "schema", "alias"} if kind(mine) == "test" else set()
            assert node == {name: value for name, value in their_node.items() if name not in without}


def test_an_error_is_told_in_dbts_words(ours, theirs):
    compared = 0
    for mine, yours in pairs(ours, theirs):
        if mine["eventType"] == "FAIL" and "." in mine["job"]["name"]:
            message = facets(mine, "run")["errorMessage"]["message"]
            assert message.split() == facets(yours, "run")["errorMessage"]["message"].split()
            compared += 1
    assert compared == 2
    (end,) = [event for event in ours if key(event) == ("dbt-run-jaffle_shop", "FAIL")]
    assert "daily_revenue" in facets(end, "run")["errorMessage"]["message"]


# What it tells of nodes when dbt has ended, by the artifacts: of models and snapshots, with their SQL.


@pytest.fixture(scope="module")
def by_artifacts(ours):
    mine = {key(event): event for event in ours}
    found = []
    for event in replayed.theirs("artifacts"):
        node = event["job"]["facets"].get("dbt_node", {}).get("unique_id")
        is_job = event["job"]["facets"]["jobType"]["jobType"] in {"MODEL", "SNAPSHOT"}
        if is_job and event["eventType"] == "COMPLETE":
            found.append((mine[node, event["eventType"]], event))
    assert len(found) > 5
    return found


def test_the_sql_that_was_executed_holds_the_compiled_query(by_artifacts):
    for mine, yours in by_artifacts:
        sql, expected = mine["job"]["facets"]["sql"], yours["job"]["facets"]["sql"]
        assert " ".join(expected["query"].split()) in " ".join(sql["query"].split())
        assert sql["dialect"] == expected["dialect"]


def test_columns_come_from_the_same_columns(by_artifacts):
    compared = 0
    for mine, yours in by_artifacts:
        found, expected = (plain(event["outputs"][0]["facets"]["columnLineage"]) for event in (mine, yours))
        if kind(mine) == "snapshot":
            # What is executed selects all columns of a query, which the parser does not look into.
            assert set(found["fields"]) == {"dbt_scd_id"}
        else:
            assert found == expected
            compared += 1
    assert compared > 3


def test_statistics_of_what_was_written_are_the_same(by_artifacts):
    for mine, yours in by_artifacts:
        expected = plain(yours["outputs"][0].get("outputFacets", {}))
        found = plain(mine["outputs"][0]["outputFacets"])
        # Seeds are left out in that mode, and DuckDB does not report rows of models.
        assert found == expected


def test_rows_of_seeds_are_told(ours):
    rows = {
        event["job"]["name"].rpartition(".")[2]: event["outputs"][0]["outputFacets"]["outputStatistics"][
            "rowCount"
        ]
        for event in ours
        if kind(event) == "seed" and event["eventType"] == "COMPLETE"
    }
    assert rows == {"raw_customers": 40, "raw_orders": 150, "raw_payments": 166}


def test_the_page_lists_the_same_differences():
    page = (Path(__file__).parents[2] / "docs/lineage.md").read_text()
    table = page.split("## Beside `dbt-ol`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert dict(rows[1:]) == DIFFERENCES
