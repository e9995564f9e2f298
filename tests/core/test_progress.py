"""What the log of the task that runs dbt says of how far dbt is, by a clock of our own."""

import json

import pytest
from recorded import graph_of, lines_of

from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.progress import FIRST_AFTER, INTERVAL, Progress
from dbt_watch.core.log.stream import LogStream

CORE, FUSION = "1.12__duckdb__jaffle_fail", "fusion-2.0.0-preview.196__duckdb__build_t4_ok_fresh"


class Scene:
    """A recorded log, read up to a certain event, and what is said of it."""

    def __init__(self, name):
        self.now = 0.0
        nodes = graph_of(name)
        self.stream = LogStream(Ledger(nodes))
        self.progress = Progress(nodes, clock=lambda: self.now)
        self.lines = list(lines_of(name))

    def read(self, event, count=1):
        """Read on until so many events of a name have come."""
        while count:
            line = self.lines.pop(0)
            self.stream.feed_lines([line])
            count -= json.loads(line)["info"]["name"] == event
        return self

    def said(self, seconds=0.0):
        """Ask as often as the task does, for a while; return what was said."""
        end, found = self.now + seconds, []
        while self.now <= end:
            found += filter(None, [self.progress.line(self.stream)])
            self.now += 0.5
        return found


@pytest.mark.parametrize("name", [CORE, FUSION])
def test_dbt_is_said_to_parse_when_it_does_so_for_a_while_and_only_once(name):
    scene = Scene(name)
    assert scene.said(60) == []
    scene.read("MainReportVersion")
    assert scene.said(FIRST_AFTER - 1) == []
    assert scene.said(300) == [f"dbt is parsing the project (0 of {len(scene.progress._nodes)} done)"]


def test_a_project_that_is_parsed_is_not_said_to_be_parsed_while_no_node_runs_yet():
    scene = Scene(CORE).read("FoundStats")
    assert scene.said(60) == ["no node is running (0 of 22 done)"]


def test_a_quick_build_says_nothing_but_the_lines_of_its_nodes():
    scene = Scene(CORE).read("MainReportVersion")
    assert scene.said(1) == []
    scene.read("LogSeedResult", 2)
    assert scene.said(INTERVAL - 2) == []


def test_a_long_one_says_twice_a_minute_which_nodes_run_and_how_many_are_done_if_that_has_changed():
    scene = Scene(CORE).read("MainReportVersion")
    scene.said()
    scene.read("LogStartLine", 3)
    assert scene.said(INTERVAL) == ["running: raw_customers, raw_orders, raw_payments (0 of 22 done)"]
    assert scene.said(10 * INTERVAL) == []
    scene.read("LogSeedResult", 2)
    said = scene.said(INTERVAL)
    scene.read("LogStartLine", 2)
    said += scene.said(INTERVAL)
    assert said == [
        "running: raw_customers (2 of 22 done)",
        "running: stg_payments, stg_orders (3 of 22 done)",
    ]


def test_nodes_that_dbt_need_not_report_are_not_counted():
    assert "exposure.jaffle_shop.morning_figures" in graph_of(CORE)
    assert len(Scene(CORE).progress._nodes) < len(graph_of(CORE))


def test_when_all_is_done_there_is_nothing_left_to_say():
    scene = Scene(FUSION).read("MainReportVersion")
    scene.said(FIRST_AFTER + 1)
    scene.stream.feed_lines(scene.lines)
    scene.stream.close(0)
    assert scene.said(2 * INTERVAL) == []


def test_a_name_that_is_no_text_for_people_is_shown_as_what_it_is():
    scene = Scene(CORE).read("MainReportVersion")
    scene.said()
    hostile = scene.lines[[b"LogStartLine" in line for line in scene.lines].index(True)]
    scene.stream.feed_lines(
        [hostile.replace(b"seed.jaffle_shop.raw_customers", b"seed.jaffle_shop.raw\\n\\u001b[31m")]
    )
    (line,) = scene.said(INTERVAL)
    assert line.isprintable()
