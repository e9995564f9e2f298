"""A node is called as people say it, wherever a text names it by its unique_id."""

import pytest
from recorded import NAMES, artifact_of, exit_code_of, graph_of, log_of, read

from dbt_watch.core.commands.replay import replay, table
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.labels import label_of
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.outcome import Producer, decide
from dbt_watch.core.results import NodeResult

LABELS = {
    "model.shop.orders": "orders",
    "model.shop.orders.v2": "orders.v2",
    "model.shop.my.orders": "my.orders",
    "seed.shop.raw_orders": "raw_orders",
    "source.shop.raw.orders": "raw.orders",
    "test.shop.not_null_orders_id.149e45c88f": "not_null_orders_id",
    "test.shop.paid_orders": "paid_orders",
    "unit_test.shop.orders.sums_up": "sums_up",
    "operation.shop.shop-on-run-start-0": "shop-on-run-start-0",
    "snapshot.shop.orders_history": "orders_history",
}
ODD = ["", "a", "a.b", "test.b", "test.149e45c88f", "unit_test.shop.only"]


@pytest.mark.parametrize(("unique_id", "label"), LABELS.items())
def test_a_unique_id_is_said_as_people_say_it(unique_id, label):
    assert label_of(unique_id) == label
    assert NodeResult(unique_id=unique_id, name="x", status="success").label == label


@pytest.mark.parametrize("text", ODD)
def test_what_is_no_unique_id_still_has_a_label(text):
    assert label_of(text) == ("only" if text.endswith("only") else text)


@pytest.mark.parametrize("name", NAMES)
def test_the_label_of_what_dbt_has_run_ends_with_its_name_or_its_version(name):
    for unique_id, entry in read(log_of(name), graph_of(name), exit_code_of(name), artifact_of(name)).items():
        label = label_of(unique_id)
        assert label == entry.name or (
            label.startswith(f"{entry.name}.v") or label.endswith(f".{entry.name}")
        )


@pytest.mark.parametrize(("unique_id", "label"), LABELS.items())
def test_the_cause_of_a_skip_is_said_by_its_label(unique_id, label):
    skipped = NodeResult(
        unique_id="model.shop.later", name="later", status="skipped", skipped_because=(unique_id,)
    )
    decision = decide(Producer("failed", Closed(exit_code=1, reason=None)), [("model.shop.later", skipped)])
    # What is the matter with a source is in the message, and there is none here.
    assert decision.reason == f"later: not built: upstream `{label}` failed"


def told(name):
    stream = LogStream(Ledger(graph_of(name)))
    return [*stream.feed(log_of(name)).lines, *stream.close(exit_code_of(name)).lines]


def test_the_producers_log_says_because_of_what_a_node_was_skipped_by_its_label():
    because = [line for line in told("1.8__duckdb__build_t4_fail_fresh") if "because of" in line]
    assert any(line.endswith("because of not_null_warns_b, null_b_error_sql") for line in because)


def test_the_failures_at_which_dbt_stopped_are_said_by_their_labels():
    first = [line for line in told("1.12__duckdb__jaffle_failfast") if "first failure" in line]
    assert first
    assert all(line.endswith("dbt stopped at the first failure: orders") for line in first)


def test_the_table_of_replay_says_the_cause_of_a_skip_by_its_label():
    name = "1.8__duckdb__build_t4_fail_fresh"
    found = replay(log_of(name), graph=graph_of(name), exit_code=exit_code_of(name))
    row = next(line for line in table(found).split("\n") if line.startswith("model.shop.after_failed_test"))
    assert row.endswith("not_null_warns_b, null_b_error_sql")
