"""A log of which lines are missing, though dbt ended well: what is lost is not known, never green and never skipped."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import NAMES, entries_of, exit_code_of, graph_of, lines_of, log_of, read

from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.end_of_run import NEVER_RUN
from dbt_watch.core.outcome import Producer, Verdict, decide
from dbt_watch.core.results import NotRun
from dbt_watch.core.statuses import meaning

COMPLETE = [name for name in NAMES if exit_code_of(name) == 0]
ENDED_WELL = Producer("success", Closed(0))
# At debug, half of the records tell of nodes; from the others little could be lost.
RUNS = [name for name in COMPLETE if "select_nothing" not in name]


@st.composite
def shortened(draw):
    """Draw a complete log, and what is left of it when some parts are taken out."""
    name = draw(st.sampled_from(RUNS))
    lines = list(lines_of(name))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(lines)))
        del lines[start : start + draw(st.integers(0, len(lines)))]
    return name, lines


def can_be_told(unique_id, node):
    """Return whether dbt says of such a node whether it built it; of others the manifest knows that it builds nothing."""
    return node.resource_type not in NEVER_RUN and node.materialized != "ephemeral" and not node.is_empty


@given(shortened())
def test_no_node_that_was_lost_ends_green_or_skipped(case):
    name, lines = case
    whole, left = entries_of(name), read(b"".join(line + b"\n" for line in lines), graph_of(name), 0)
    rest = b"\n".join(lines)
    for unique_id, node in graph_of(name).items():
        entry = left[unique_id]
        if entry.status == whole[unique_id].status and unique_id.encode() in rest:
            continue
        if can_be_told(unique_id, node) and not whole[unique_id].was_not_run:
            assert decide(ENDED_WELL, [(unique_id, entry)]).verdict is Verdict.FAIL, unique_id


@given(shortened())
def test_what_is_left_of_a_log_makes_no_node_end_otherwise_than_all_of_it(case):
    name, lines = case
    left = read(b"".join(line + b"\n" for line in lines), graph_of(name), 0)
    for unique_id, entry in left.items():
        assert entry.was_not_run or meaning(entry.status) is meaning(entries_of(name)[unique_id].status)


@pytest.mark.parametrize("name", COMPLETE)
def test_of_a_whole_log_nothing_is_unknown(name):
    assert not [key for key, entry in entries_of(name).items() if entry.not_run is NotRun.NOT_KNOWN]


@pytest.mark.parametrize("name", [name for name in RUNS if "freshness" not in name])
@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (b'"MainReportVersion"', "the log lacks its beginning"),
        (b'"(StatsLine|CommandCompleted)"', "the log lacks its summary"),
    ],
)
def test_what_is_missing_is_said(name, lost, words):
    lines = [line for line in lines_of(name) if not re.search(lost, line)]
    node = next(
        key for key, entry in entries_of(name).items() if key.startswith("model.") and entry.is_success
    )
    lines = [line for line in lines if node.encode() not in line]
    entry = read(b"".join(line + b"\n" for line in lines), graph_of(name), 0)[node]
    assert entry.not_run is NotRun.NOT_KNOWN
    assert words in entry.message


@pytest.mark.parametrize("name", RUNS)
def test_one_lost_node_is_missed_in_dbts_own_count(name):
    node = next(
        key for key, entry in entries_of(name).items() if key.startswith("model.") and entry.is_success
    )
    lines = [line for line in lines_of(name) if node.encode() not in line]
    entry = read(b"".join(line + b"\n" for line in lines), graph_of(name), 0)[node]
    assert entry.not_run is NotRun.NOT_KNOWN
    assert "nodes that dbt counted" in entry.message


@pytest.mark.parametrize("name", RUNS)
def test_a_log_without_a_record_tells_of_no_node(name):
    for log in (b"", b"Running with dbt=1.11\n"):
        entries = read(log, graph_of(name), 0)
        known = {key for key, entry in entries.items() if entry.not_run is not NotRun.NOT_KNOWN}
        assert not [key for key in known if can_be_told(key, graph_of(name)[key])]


def test_a_check_whose_log_is_lost_leaves_its_sources_unknown():
    name = "1.11__duckdb__jaffle_freshness_build"
    build = log_of(name)[log_of(name).rindex(b'{"data": {"log_version"') :]
    entries = read(build, graph_of(name), 0)
    sources = [entry for key, entry in entries.items() if key.startswith("source.")]
    assert sources
    assert {entry.not_run for entry in sources} == {NotRun.NOT_KNOWN}
