"""Reading single lines."""

import json

import pytest

from dbt_watch.core.log.events import DbtEvent, event_inside, is_noise, read_line


def record(name="LogModelResult", level="info", *, compact=False, **data):
    info = {
        "name": name,
        "level": level,
        "ts": "2026-11-21T08:00:00.000000Z",
        "msg": "text",
        "invocation_id": "i",
    }
    return json.dumps({"data": data, "info": info}, separators=(",", ":") if compact else None).encode()


@pytest.mark.parametrize(
    "line",
    [b"", b"42", b"null", b"true", b'"text"', b"[1,2]", b"{}", b'{"level":"info","data":"text"}', b'{"info": 5}', b'{"info": {}}',
     b'{"info": {"name": "X"}}', b'{"info": {"name": 5, "level": "info", "ts": "x"}}', b"\xff\xfe", b"{" * 100_000, b"[" * 100_000,
     b'{"info":' * 20_000, b"NaN", "\u2028".encode()],
)  # fmt: skip
def test_what_is_no_record_of_dbt_is_free_text(line):
    assert [type(part) for part in read_line(line)] == [str]


@pytest.mark.parametrize("compact", [True, False])
def test_a_record_is_read_in_either_spacing(compact):
    (event,) = read_line(
        record(node_info={"unique_id": "model.a.b", "node_status": "success"}, compact=compact)
    )
    info = event.info
    assert (info.name, info.level, event.unique_id, info.invocation_id) == (
        "LogModelResult",
        "info",
        "model.a.b",
        "i",
    )
    assert event.data.node_info.node_status == "success"


@pytest.mark.parametrize(
    "data",
    [{"node_info": None}, {"node_info": 5}, {"node_info": {"unique_id": "a", "node_name": None}}, {"execution_time": "long"},
     {"num_failures": 2**70}, {"num_failures": 1.5}, {"status": ["x"]}, {"run_result": {"status": 5, "message": {}}}],
)  # fmt: skip
def test_a_field_of_a_wrong_type_costs_only_that_field(data):
    line = record(**{"msg": "kept", **data})
    (event,) = read_line(line)
    assert event.data.msg == "kept"


def test_a_node_is_known_though_another_of_its_fields_is_wrong():
    (event,) = read_line(record(node_info={"unique_id": "a", "node_name": 5}))
    assert event.unique_id == "a"


def test_data_that_is_no_object_leaves_the_event():
    line = record().replace(b'"data": {}', b'"data": "text"')
    (event,) = read_line(line)
    assert event.info.name == "LogModelResult"


def test_bytes_that_are_not_utf8_inside_a_record_do_not_hide_it():
    (event,) = read_line(record(msg="AAAA").replace(b"AAAA", b"A\xffA"))
    assert event.data.msg == "A\ufffdA"


def test_half_a_surrogate_pair_can_be_encoded_again():
    (event,) = read_line(record(msg="AAAA").replace(b"AAAA", rb"\ud83d"))
    assert event.data.msg.encode()


def test_a_raw_line_separator_inside_a_string_is_kept():
    (event,) = read_line(record(msg="AAAA").replace(b"AAAA", "\u2028".encode()))
    assert event.data.msg == "\u2028"


class TestGluedLines:
    def test_a_record_behind_text_is_found_with_the_text(self):
        text, event = read_line(b"50 % done " + record())
        assert (text, event.info.name) == ("50 % done ", "LogModelResult")

    def test_a_record_before_text_is_found(self):
        assert [type(part) for part in read_line(record() + b" and more")] == [DbtEvent, str]

    def test_all_records_of_a_line_are_found(self):
        parts = read_line(b"a" + record("A") + b"b" + record("B") + record("C") + b"c")
        assert [part if isinstance(part, str) else part.info.name for part in parts] == [
            "a",
            "A",
            "b",
            "B",
            "C",
            "c",
        ]

    def test_text_that_looks_like_a_record_does_not_hide_one(self):
        _, event = read_line(b'{"data": {"info": {"data": ' + record())
        assert event.info.name == "LogModelResult"

    def test_a_line_full_of_beginnings_is_read_in_bounded_time(self):
        assert [type(part) for part in read_line(b'{"data": ' * 50_000)] == [str]

    def test_many_records_in_one_line_are_all_found(self):
        assert len(read_line(record() * 3_000)) == 3_000


class TestNoise:
    @pytest.mark.parametrize("compact", [True, False])
    def test_is_told_from_the_bytes(self, compact):
        line = record("SQLQuery", "debug", sql="select 1", compact=compact)
        # `name` comes last but for a few fields in dbt's own order; so it does here.
        assert is_noise(line)

    @pytest.mark.parametrize(
        "name", ["NodeFinished", "NodeStart", "MarkSkippedChildren", "CatchableExceptionOnRun", "Note"]
    )
    def test_is_no_debug_event_that_tells_of_a_node(self, name):
        assert not is_noise(record(name, "debug"))

    def test_is_no_event_above_debug(self):
        assert not is_noise(record("SQLQuery", "info"))

    def test_is_no_line_that_holds_more_than_itself(self):
        assert not is_noise(record("LogModelResult") + record("SQLQuery", "debug"))
        assert not is_noise(b"text" + record("SQLQuery", "debug"))
        assert not is_noise(record("SQLQuery", "debug") + b"text")

    def test_is_not_found_inside_a_string(self):
        text = record("SQLQuery", "debug").decode()
        assert not is_noise(record("LogModelResult", "info", msg=text))


class TestALostEvent:
    MSG = (
        "[LogTestResult]: Unable to parse logging event dictionary. Failed to parse num_failures field: Value out of range: "
        "8146686661.. Dictionary: {'name': 'x', 'status': 'fail', 'node_info': {'unique_id': 'test.a.b', 'node_status': 'fail', "
        "'node_relation': {'relation_name': None}}, 'num_failures': 8146686661, 'group': None}"
    )

    def note(self, msg):
        info = {"name": "Note", "level": "warn", "ts": "t", "msg": msg, "invocation_id": "i"}
        (note,) = read_line(json.dumps({"data": {"msg": msg}, "info": info}).encode())
        return note

    def test_is_read_from_the_note(self):
        event = event_inside(self.note(self.MSG))
        assert (event.info.name, event.unique_id, event.data.num_failures) == (
            "LogTestResult",
            "test.a.b",
            8_146_686_661,
        )

    @pytest.mark.parametrize(
        "msg",
        ["just a note", MSG[:-5], MSG.replace("'fail'", "<TestStatus.Fail: 'fail'>"), MSG.replace("{'name'", "{" * 5_000),
         MSG.replace("'x'", "__import__('os')"), MSG.replace("'x'", "-" * 30_000 + "1"), "x" * 1_000_000],
    )  # fmt: skip
    def test_is_not_found_in_other_notes(self, msg):
        assert event_inside(self.note(msg)) is None
