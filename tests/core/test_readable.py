"""The producer's task log: what it says once and what it says of each node."""

import pytest
from recorded import NAMES, exit_code_of, graph_of, log_of

from dbt_watch.core.ledger import Ledger
from dbt_watch.core.results import NodeInfo
from dbt_watch.core.stream import LogStream


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


@pytest.mark.parametrize("name", NAMES)
def test_without_readable_lines_the_ledger_is_the_same(name):
    log, graph = log_of(name), graph_of(name)
    told, silent = LogStream(Ledger(graph)), LogStream(Ledger(graph), readable=False)
    changes = [*told.feed(log).changes, *told.close(exit_code_of(name)).changes]
    batches = [silent.feed(log), silent.close(exit_code_of(name))]
    assert [change for batch in batches for change in batch.changes] == changes
    assert not [line for batch in batches for line in batch.lines]
