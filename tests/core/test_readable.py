"""The producer's task log: what it says once and what it says of each node."""

import pytest
from recorded import graph_of, log_of

from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.results import NodeInfo


def nodes(*names):
    return {f"model.shop.{name}": NodeInfo(name=name, resource_type="model") for name in names}


def test_what_keeps_many_nodes_from_running_is_told_once():
    stream = LogStream(Ledger(nodes("b", "a", "c")))
    lines = stream.close(2, reason="the database is away\nsince noon").lines
    assert sum("the database is away" in line for line in lines) == 1
    assert lines[0].strip().startswith("3 nodes NOT RUN (a, b, c): ")


def test_a_node_that_did_not_run_alone_is_told_by_its_name():
    lines = LogStream(Ledger(nodes("a"))).close(2, reason="the database is away").lines
    assert lines[0].strip().startswith("a NOT RUN: ")


@pytest.mark.parametrize("name", ["1.9__duckdb__build_t4_fail_debug", "1.12__postgres__build_t4_fail_debug"])
def test_what_dbt_skips_is_not_told_as_started(name):
    assert not told_twice(name)


@pytest.mark.parametrize("engine", ["fusion-2.0.0-preview.196", "core-2.0.0-alpha.4"])
def test_of_fusion_only_what_began_before_the_failure_is_told_as_started(engine):
    # A test before them fails while they are compiled.
    assert told_twice(f"{engine}__duckdb__build_t4_fail_fresh") <= {"warns", "orders_inc"}


def told_twice(name):
    """Name the nodes of a recording that are started, and then skipped, in the lines or in the changes."""
    stream = LogStream(Ledger(graph_of(name)))
    batch = stream.feed(log_of(name))
    words = [line.split(" ") for line in batch.lines]
    started = {line[1] for line in words if line[2:3] == ["started"]}
    skipped = {line[1] for line in words if line[2:3] == ["SKIPPED"]}
    changed = {change.name for change in batch.changes if change.status == "started"} & {
        change.name for change in batch.changes if change.status == "skipped"
    }
    assert skipped
    assert changed == started & skipped
    return changed
