"""The ledger, event by event."""

import json
from types import MappingProxyType

import pytest

from dbt_watch.core.log.events import Data, DbtEvent, EventNode, Info, RunResult
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.results import NOT_DUE, NodeInfo, NotRun

BEGAN = "2026-11-21T08:00:00.000000"
ORDERS = "model.shop.orders"


class Teller:
    """Makes events of one dbt command, each a millisecond after the one before."""

    def __init__(self, invocation="first", hour=8):
        self.invocation, self.hour, self.tick = invocation, hour, 0

    def __call__(
        self,
        event,
        unique_id=None,
        node_status="",
        /,
        *,
        level="info",
        msg="",
        kind=None,
        began=BEGAN,
        materialized="table",
        **data,
    ):
        self.tick += 1
        if unique_id is not None:
            kind = kind or unique_id.split(".")[0]
            data["node_info"] = EventNode(unique_id=unique_id, node_name=unique_id.split(".")[2], resource_type=kind, node_status=node_status,
                                     node_started_at=began, materialized=materialized)  # fmt: skip
        ts = f"2026-11-21T{self.hour:02}:00:00.{self.tick:06}Z"
        return DbtEvent(Info(event, level, ts, msg, self.invocation), Data(**data))


def test_a_start_and_an_end_make_two_changes():
    ledger, tell = Ledger(), Teller()
    (first,) = ledger.apply(tell("LogStartLine", ORDERS, "started"))
    assert (first.status, first.is_final, first.name) == ("started", False, "orders")
    (last,) = ledger.apply(tell("LogModelResult", ORDERS, "success", execution_time=0.5, status="SELECT 100"))
    assert (last.status, last.is_success, last.execution_time, last.rows_affected) == (
        "success",
        True,
        0.5,
        100,
    )
    assert ledger.entries == {ORDERS: last}


@pytest.mark.parametrize(
    ("text", "rows"),
    [("SELECT 100", 100), ("INSERT 0 50", 50), ("SUCCESS 1", 1), ("MERGE 7", 7), ("CREATE VIEW", None), ("OK", None), ("BATCH 2 of 3", None), ("", None)],
)  # fmt: skip
def test_rows_are_read_from_the_answer_of_the_database(text, rows):
    ledger = Ledger()
    ledger.apply(Teller()("LogModelResult", ORDERS, "success", status=text))
    assert ledger.entries[ORDERS].rows_affected == rows


def test_the_status_of_a_unit_test_comes_from_the_data():
    ledger = Ledger()
    (change,) = ledger.apply(
        Teller()("LogTestResult", "unit_test.shop.t", "None", status="fail", num_failures=1)
    )
    assert (change.status, change.failures) == ("fail", 1)


def test_free_text_as_status_of_a_model_is_no_status():
    assert Ledger().apply(Teller()("LogModelResult", ORDERS, "None", status="SELECT 100")) == []


def test_a_final_state_stays():
    ledger, tell = Ledger(), Teller()
    ledger.apply(tell("LogModelResult", ORDERS, "error"))
    for event in (
        tell("LogModelResult", ORDERS, "success"),
        tell("LogStartLine", ORDERS, "started"),
        tell("SkippingDetails", ORDERS, "skipped"),
        tell("NodeFinished", ORDERS, "success", level="debug", run_result=RunResult(status="success")),
        tell("RunResultWarning", ORDERS, "None"),
    ):
        ledger.apply(event)
        assert ledger.entries[ORDERS].status == "error"


def test_the_error_text_at_the_end_of_the_run_is_added_to_the_failed_node():
    ledger, tell = Ledger(), Teller()
    ledger.apply(tell("LogModelResult", ORDERS, "error"))
    text = tell("RunResultError", ORDERS, "None", msg="\x1b[31mDatabase Error\x1b[0m\n  no such table")
    text.data.msg = text.info.msg
    (change,) = ledger.apply(text)
    assert (change.status, change.message) == ("error", "Database Error\n  no such table")
    assert ledger.apply(text) == []


def test_an_error_reported_before_the_end_is_there_with_the_end():
    ledger, tell = Ledger(), Teller()
    ledger.apply(tell("CatchableExceptionOnRun", ORDERS, "executing", level="debug", exc="no such table"))
    (change,) = ledger.apply(tell("LogModelResult", ORDERS, "error"))
    assert change.message == "no such table"


def test_a_debug_event_of_the_end_adds_what_the_info_event_lacks():
    ledger, tell = Ledger(), Teller()
    ledger.apply(tell("LogStartLine", ORDERS, "started"))
    ledger.apply(tell("LogModelResult", ORDERS, "success", execution_time=1.0))
    result = RunResult(
        status="success", adapter_response={"rows_affected": 5.0, "code": "SELECT", "big": {"a": 1}}
    )
    (change,) = ledger.apply(tell("NodeFinished", ORDERS, "success", level="debug", run_result=result))
    assert (change.rows_affected, change.adapter_response) == (5, {"rows_affected": 5, "code": "SELECT"})


class TestMicrobatch:
    BATCH = "2026-11-21T08:00:01.000000"

    def test_a_batch_does_not_end_its_model(self):
        ledger, tell = Ledger(), Teller()
        ledger.apply(tell("LogStartLine", ORDERS, "started"))
        for event in (
            tell("NodeStart", ORDERS, "started", level="debug", began=self.BATCH),
            tell("LogStartBatch", ORDERS, "started", began=self.BATCH, batch_index=1, total_batches=2),
            tell(
                "LogBatchResult",
                ORDERS,
                "success",
                began=self.BATCH,
                batch_index=1,
                total_batches=2,
                status="success",
            ),
            tell(
                "NodeFinished",
                ORDERS,
                "success",
                level="debug",
                began=self.BATCH,
                run_result=RunResult(status="success"),
            ),
        ):
            assert ledger.apply(event) == []
        assert ledger.entries[ORDERS].status == "started"

    @pytest.mark.parametrize("seen", [0, 1, 2, 3])
    def test_nor_when_the_beginning_of_the_log_is_missing(self, seen):
        ledger, tell = Ledger(), Teller()
        events = [
            tell("NodeStart", ORDERS, "started", level="debug", began=self.BATCH),
            tell("LogStartBatch", ORDERS, "started", began=self.BATCH, batch_index=1, total_batches=2),
            tell("LogBatchResult", ORDERS, "success", began=self.BATCH, batch_index=1, total_batches=2, status="success"),
            tell("NodeFinished", ORDERS, "success", level="debug", began=self.BATCH, materialized="incremental",
                 run_result=RunResult(status="success")),
        ]  # fmt: skip
        for event in events[seen:]:
            ledger.apply(event)
        assert not any(entry.is_final for entry in ledger.entries.values())
        (change,) = ledger.apply(tell("LogModelResult", ORDERS, "partial success"))
        assert change.status == "partial success"


class TestSeveralCommandsInOneLog:
    SOURCE = "source.shop.raw.orders"

    def test_are_kept_apart(self):
        ledger, freshness, build = Ledger(), Teller("freshness", 8), Teller("build", 9)
        ledger.apply(freshness("LogFreshnessResult", self.SOURCE, "warn", status="warn"))
        ledger.apply(build("LogModelResult", ORDERS, "success"))
        assert ledger.entries[self.SOURCE].invocation_id == "freshness"
        assert ledger.entries[self.SOURCE].is_warning
        assert ledger.entries[ORDERS].invocation_id == "build"

    def test_a_later_one_that_finishes_a_node_again_has_the_last_word(self):
        ledger, first, second = Ledger(), Teller("first", 8), Teller("second", 9)
        failed = first("LogModelResult", ORDERS, "error")
        ledger.apply(failed)
        assert ledger.apply(second("LogStartLine", ORDERS, "started")) == []
        assert ledger.entries[ORDERS].status == "error"
        (change,) = ledger.apply(second("LogModelResult", ORDERS, "success"))
        assert (change.status, change.invocation_id) == ("success", "second")
        assert ledger.apply(failed) == []

    def test_a_later_one_that_is_killed_leaves_the_earlier_result(self):
        ledger, first, second = Ledger(), Teller("first", 8), Teller("second", 9)
        ledger.apply(first("LogModelResult", ORDERS, "success"))
        ledger.apply(second("LogStartLine", ORDERS, "started"))
        ledger.close(137)
        assert ledger.entries[ORDERS].status == "success"


class TestSkips:
    NODES = MappingProxyType(
        {
            "seed.shop.raw": NodeInfo("raw", "seed"),
            ORDERS: NodeInfo("orders", "model", "table", ("seed.shop.raw",)),
            "test.shop.t": NodeInfo("t", "test", "", (ORDERS,)),
            "model.shop.child": NodeInfo("child", "model", "table", (ORDERS,)),
            "model.shop.grandchild": NodeInfo("grandchild", "model", "table", ("model.shop.child",)),
            "unit_test.shop.u": NodeInfo("u", "unit_test", "", ("model.shop.child",)),
        }
    )

    def test_name_the_failed_node_however_far(self):
        ledger, tell = Ledger(self.NODES), Teller()
        ledger.apply(tell("LogModelResult", ORDERS, "error"))
        ledger.apply(tell("SkippingDetails", "model.shop.child", "skipped"))
        (change,) = ledger.apply(tell("SkippingDetails", "model.shop.grandchild", "skipped"))
        assert change.skipped_because == (ORDERS,)

    def test_name_the_failed_test_that_kept_them_back(self):
        ledger, tell = Ledger(self.NODES), Teller()
        ledger.apply(tell("LogModelResult", ORDERS, "success"))
        ledger.apply(tell("LogTestResult", "test.shop.t", "fail", num_failures=2))
        (change,) = ledger.apply(tell("SkippingDetails", "model.shop.child", "skipped"))
        assert change.skipped_because == ("test.shop.t",)

    def test_name_the_failed_unit_test_of_the_node_itself(self):
        ledger, tell = Ledger(self.NODES), Teller()
        ledger.apply(tell("LogTestResult", "unit_test.shop.u", "None", status="fail"))
        (change,) = ledger.apply(tell("SkippingDetails", "model.shop.child", "skipped"))
        assert change.skipped_because == ("unit_test.shop.u",)

    def test_are_told_from_the_name_when_the_event_has_no_id(self):
        nodes = {
            "model.shop.eph": NodeInfo("eph", "model", "ephemeral"),
            ORDERS: NodeInfo("orders", "model", "table", ("model.shop.eph",)),
        }
        ledger, tell = Ledger(nodes), Teller()
        (change,) = ledger.apply(
            tell("LogSkipBecauseError", relation="orders", status="error", level="error")
        )
        assert (change.unique_id, change.status) == (ORDERS, "skipped")
        ledger.apply(tell("RunResultError", "model.shop.eph", "None", level="error"))
        ledger.close(1)
        assert ledger.entries["model.shop.eph"].status == "error"
        assert ledger.entries[ORDERS].skipped_because == ("model.shop.eph",)

    def test_end_in_a_graph_with_a_circle(self):
        nodes = {
            f"model.shop.{a}": NodeInfo(a, "model", "", tuple(f"model.shop.{b}" for b in "abc" if b != a))
            for a in "abc"
        }
        ledger, tell = Ledger(nodes), Teller()
        for unique_id in nodes:
            ledger.apply(tell("SkippingDetails", unique_id, "skipped"))
        ledger.close(1)
        assert all(entry.is_skipped for entry in ledger.entries.values())


BEGINNING = ("MainReportVersion", None, "", {})


class TestTheEnd:
    NODES = MappingProxyType(
        {
            ORDERS: NodeInfo("orders", "model", "table"),
            "model.shop.other": NodeInfo("other", "model", "table"),
            "model.shop.eph": NodeInfo("eph", "model", "ephemeral"),
        }
    )

    def close(self, exit_code, *events, summary=True, **kwargs):
        ledger, tell = Ledger(self.NODES), Teller()
        for name, unique_id, status, data in events:
            ledger.apply(tell(name, unique_id, status, **data))
        if summary:
            ledger.apply(tell("StatsLine"))
        ledger.close(exit_code, **kwargs)
        return ledger.entries

    def test_a_node_that_was_not_due_is_not_green(self):
        entries = self.close(0, BEGINNING, ("LogModelResult", ORDERS, "success", {"total": 1}))
        assert entries["model.shop.other"].not_run is NotRun.NOT_IN_PROJECT
        assert entries["model.shop.eph"].not_run is NotRun.EPHEMERAL
        assert all(
            entries[key].not_run in NOT_DUE and entries[key].was_not_run
            for key in ("model.shop.other", "model.shop.eph")
        )

    def test_a_started_node_did_not_finish_when_dbt_was_killed(self):
        entries = self.close(137, ("LogStartLine", ORDERS, "started", {}), summary=False, reason="OOMKilled")
        assert entries[ORDERS].not_run is NotRun.UNFINISHED
        assert "OOMKilled" in entries[ORDERS].message
        assert "137" in entries[ORDERS].message
        assert entries[ORDERS].started_at is not None
        assert entries["model.shop.other"].not_run is NotRun.ENDED_EARLY
        assert entries["model.shop.other"].not_run not in NOT_DUE

    def test_a_started_node_is_not_green_though_dbt_ended_well(self):
        assert self.close(0, ("LogStartLine", ORDERS, "started", {}))[ORDERS].was_not_run

    def test_the_nodes_behind_fail_fast_say_so(self):
        entries = self.close(
            1, ("LogStartLine", ORDERS, "started", {"total": 2}), ("LogModelResult", ORDERS, "error", {})
        )
        assert entries["model.shop.other"].not_run is NotRun.FAIL_FAST
        assert entries["model.shop.other"].message == "dbt stopped at the first failure: orders"

    def test_an_empty_model_is_told_from_fail_fast_by_dbts_own_count(self):
        entries = self.close(1, BEGINNING, ("LogStartLine", ORDERS, "started", {"total": 1}),
                             ("LogModelResult", ORDERS, "error", {}))  # fmt: skip
        assert entries["model.shop.other"].not_run is NotRun.NOT_IN_PROJECT

    def test_a_crash_tells_its_error(self):
        entries = self.close(
            2, ("MainEncounteredError", None, "", {"exc": "Parsing Error in x.yml"}), summary=False
        )
        assert "Parsing Error in x.yml" in entries[ORDERS].message

    @pytest.mark.parametrize(("exit_code", "status"), [(0, "success"), (1, "error"), (None, "error")])
    def test_an_unknown_word_is_kept_until_the_end_and_then_resolved(self, exit_code, status):
        ledger = Ledger(self.NODES)
        (change,) = ledger.apply(Teller()("LogModelResult", ORDERS, "shiny"))
        assert (change.status, change.is_final) == ("shiny", False)
        ledger.close(exit_code)
        assert ledger.entries[ORDERS].status == status
        assert "shiny" in ledger.entries[ORDERS].message

    def test_comes_once(self):
        ledger = Ledger(self.NODES)
        assert len(ledger.close(0)) == 3
        assert ledger.close(1) == []
        assert ledger.apply(Teller()("LogModelResult", ORDERS, "success")) == []

    def test_run_results_decide_what_the_log_left_open(self):
        results = {"metadata": {"invocation_id": "first"}, "results": [
            {"unique_id": ORDERS, "status": "success", "execution_time": 2.5, "adapter_response": {"rows_affected": 9},
             "timing": [{"name": "execute", "started_at": "2026-11-21T08:00:00Z", "completed_at": "2026-11-21T08:00:02Z"}]},
            {"unique_id": "model.shop.other", "status": 5},
        ]}  # fmt: skip
        entries = self.close(
            0, ("LogStartLine", ORDERS, "started", {}), run_results=json.dumps(results).encode()
        )
        assert (entries[ORDERS].status, entries[ORDERS].rows_affected, entries[ORDERS].execution_time) == (
            "success",
            9,
            2.5,
        )
        assert entries["model.shop.other"].was_not_run

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"null", b'{"metadata": 5}', b"\xff", b'{"metadata": {}, "results": [1, {}]}'],
    )
    def test_damaged_run_results_are_as_good_as_none(self, content):
        assert self.close(0, run_results=content) == self.close(0)

    def test_freshness_has_the_age_from_sources_json(self):
        source = "source.shop.raw.orders"
        content = {"metadata": {"invocation_id": "first"}, "results": [
            {"unique_id": source, "status": "warn", "max_loaded_at_time_ago_in_s": 3600.5, "adapter_response": {}}]}  # fmt: skip
        entries = self.close(
            0,
            ("LogFreshnessResult", source, "warn", {"status": "warn"}),
            run_results=json.dumps(content).encode(),
        )
        assert entries[source].age == 3600.5


def test_a_foreign_log_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("dbt_watch.core.log.ledger.MAX_NODES", 10)
    ledger, tell = Ledger(), Teller()
    for number in range(50):
        ledger.apply(tell("LogModelResult", f"model.shop.n{number}", "success"))
    assert len(ledger.entries) == 10


def test_a_long_error_is_kept_within_bounds():
    ledger, tell = Ledger(), Teller()
    ledger.apply(tell("GenericExceptionOnRun", ORDERS, "", level="error", exc="x" * 1_000_000 + "the end"))
    (change,) = ledger.apply(tell("LogModelResult", ORDERS, "error"))
    assert len(change.message) < 20_000
    assert change.message.endswith("the end")
