"""What the log of a sensor says: the reason once, and of a node that dbt skipped no start."""

import pytest
from recorded import exit_code_of, graph_of, log_of

from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.outcome import Producer
from dbt_watch.sensors.trigger import write_log
from dbt_watch.sensors.updates import Sensor, update_of


class Log(list):
    """Stands for the logger of a task."""

    def info(self, form, line):
        self.append(("info", form % line))

    def error(self, form, line):
        self.append(("error", form % line))


def log_of_sensor(log, unique_id, nodes, exit_code, reason=None):
    """Return what a sensor writes that is told of each change until it ends."""
    stream, shown, printed = LogStream(Ledger(nodes)), Log(), set()
    during = [(Producer("running"), change) for change in stream.feed(log).changes]
    last = stream.close(exit_code, reason=reason).changes
    end = Producer("failed", Closed(exit_code, stream.ledger.run.end.reason or None))
    for producer, change in (*during, *((end, change) for change in last)):
        if change.unique_id == unique_id:
            update = update_of(Sensor(unique_ids=(unique_id,)), producer, {unique_id: change}, 0.0)
            write_log(shown, update, printed)
            if update.is_over:
                break
    return shown


def test_a_node_that_was_skipped_has_no_start_in_its_log_and_says_first_which_node_broke_it():
    name = "1.9__duckdb__build_t4_fail_debug"
    shown = log_of_sensor(log_of(name), "model.shop.after_failed_test", graph_of(name), exit_code_of(name))
    assert [kind for kind, _ in shown] == ["error", "info"]
    assert shown[0][1].startswith("failed: after_failed_test: not built: upstream ")
    assert shown[1][1].startswith("model after_failed_test: skipped at ")


@pytest.mark.parametrize(
    ("log", "exit_code", "reason", "words"),
    [
        (b"Error: no such path\n", 2, None, "Error: no such path"),
        (b"", 137, "OOMKilled", "OOMKilled"),
        (b"", None, "the pod did not run dbt: ErrImagePull", "ErrImagePull"),
    ],
)
def test_the_reason_is_said_once(log, exit_code, reason, words):
    nodes = graph_of("1.9__duckdb__build_t4_fail_debug")
    shown = log_of_sensor(log, "model.shop.warns", nodes, exit_code, reason)
    assert "\n".join(line for _, line in shown).count(words) == 1
