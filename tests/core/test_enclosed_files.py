"""Files in a log: taken out whole or not at all, wherever the log is cut, repeated or damaged."""

import gzip
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_watch.core.log import enclosed_files
from dbt_watch.core.log.enclosed_files import MARK, NAMES, EnclosedFiles, lines_of, unpacked
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.lines import LineSplitter
from dbt_watch.core.log.stream import LogStream

# What cannot be compressed takes several lines.
large = st.integers(0, 60_000).map(lambda size: random.Random(size).randbytes(size))
contents = st.one_of(large, st.binary(max_size=200).map(lambda some: some * 500))


def log_of(files):
    return [line for name, content in files.items() for line in lines_of(name, gzip.compress(content))]


def whole(files):
    found, missing = files.found()
    return {file.name: file.content for file in found}, missing


@given(
    files=st.dictionaries(st.sampled_from(NAMES), contents, min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 9_000), max_size=20),
)
def test_any_files_arrive_however_the_log_is_cut(files, cuts):
    log = b"\n".join([b"before", *log_of(files), b"after"]) + b"\n"
    collected, splitter, rest = EnclosedFiles(), LineSplitter(), []
    at = 0
    for cut in [*cuts, len(log)]:
        rest += collected.sift(splitter.feed(log[at : at + cut]))
        at += cut
    rest += collected.sift(splitter.feed(log[at:]))
    assert rest == [b"before", b"after"]
    assert whole(collected) == (files, {})


@given(content=contents, data=st.data())
def test_lines_that_are_read_twice_or_out_of_order_change_nothing(content, data):
    lines = log_of({"manifest.json": content})
    again = data.draw(st.lists(st.sampled_from(lines), max_size=10))
    collected = EnclosedFiles()
    assert collected.sift(data.draw(st.permutations([*lines, *again]))) == []
    assert collected.content("manifest.json") == content


@given(content=large, data=st.data())
def test_a_file_that_lacks_a_line_is_none(content, data):
    lines = log_of({"run_results.json": content})
    lines.remove(data.draw(st.sampled_from(lines)))
    collected = EnclosedFiles()
    collected.sift(lines)
    found, missing = whole(collected)
    assert found == {}
    assert "missing" in missing["run_results.json"] or "the log ends" in missing["run_results.json"]


@given(content=contents, data=st.data())
def test_a_damaged_line_never_gives_another_file(content, data):
    lines = log_of({"run_results.json": content})
    number = data.draw(st.integers(0, len(lines) - 1))
    line = bytearray(lines[number])
    line[data.draw(st.integers(0, len(line) - 1))] = data.draw(
        st.integers(0, 255).filter(lambda byte: byte != 10)
    )
    collected = EnclosedFiles()
    collected.sift([*lines[:number], bytes(line), *lines[number + 1 :]])
    # The header of gzip holds bytes that say nothing of the content, such as the time.
    assert collected.content("run_results.json") in {None, content}


@given(st.lists(st.binary(max_size=60).map(lambda text: MARK + text.replace(b"\n", b""))))
def test_whatever_follows_the_mark_is_taken_out_and_raises_nothing(lines):
    collected = EnclosedFiles()
    assert collected.sift(lines) == []
    assert whole(collected)[0] == {}


def test_the_reason_why_there_is_no_file_is_told():
    collected = EnclosedFiles()
    collected.sift([MARK + b"catalog.json none `dbt docs generate` ended with 2: no such table "])
    assert whole(collected) == ({}, {"catalog.json": "`dbt docs generate` ended with 2: no such table"})


def test_files_that_nobody_knows_are_not_kept():
    collected = EnclosedFiles()
    name, packed = "passwd", gzip.compress(b"root")
    assert collected.sift([*lines_of(name, packed), *lines_of("../manifest.json", packed)]) == []
    assert whole(collected) == ({}, {})


def test_only_what_is_wanted_is_kept_and_the_tail_of_the_log_counted():
    collected = EnclosedFiles(only={"run_results.json"})
    lines = log_of({"run_results.json": b"{}", "manifest.json": b"{}"})
    collected.sift([b"a record of dbt"])
    assert collected.tail == 0
    collected.sift(lines)
    collected.sift([b"the last line"])
    assert collected.tail == len(lines) + 1
    assert whole(collected) == ({"run_results.json": b"{}"}, {})


def test_what_unpacks_to_too_much_is_refused(monkeypatch):
    assert unpacked(gzip.compress(bytes(5_000)), 1_000) == "it has more than 1000 bytes"
    assert unpacked(gzip.compress(bytes(1_000)), 1_000) == bytes(1_000)
    monkeypatch.setattr(enclosed_files, "MAX_PACKED", 10)
    collected = EnclosedFiles()
    collected.sift(log_of({"run_results.json": b"more than ten bytes"}))
    assert "more than 10 bytes" in whole(collected)[1]["run_results.json"]


@pytest.mark.parametrize("packed", [b"", b"no gzip", gzip.compress(b"a")[:-1], gzip.compress(b"a") + b"b"])
def test_what_gzip_has_not_written_is_damaged(packed):
    assert "it is damaged" in unpacked(packed)


def test_a_stream_shows_no_line_of_a_file():
    stream = LogStream(Ledger())
    update = stream.feed(b"\n".join([b"hello", *log_of({"manifest.json": b"{}"}), b"bye", b""]))
    assert [line for line in update.lines if "dbt-watch-file" in line] == []
    assert len(update.lines) == 2
    assert stream.files.content("manifest.json") == b"{}"
