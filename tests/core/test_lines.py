"""Cutting bytes into lines."""

from hypothesis import given
from hypothesis import strategies as st

from dbt_watch.core.log.lines import LineSplitter


def fed(splitter, *pieces):
    return [line for piece in pieces for line in splitter.feed(piece)]


def test_a_line_is_given_when_its_end_has_come():
    splitter = LineSplitter()
    assert splitter.feed(b"one") == []
    assert splitter.feed(b" more\ntwo") == [b"one more"]
    assert splitter.flush() == [b"two"]


def test_only_a_newline_ends_a_line():
    line = "a\u2028b\x85c\x0bd\x0ce\rf".encode()
    assert fed(LineSplitter(), line + b"\n") == [line]


def test_one_carriage_return_before_the_end_is_taken_off():
    assert fed(LineSplitter(), b"a\r\nb\r\r\n\r\n") == [b"a", b"b\r", b""]
    assert fed(LineSplitter(), b"a\r", b"\nb") == [b"a"]


def test_empty_lines_are_lines():
    assert fed(LineSplitter(), b"\n\na\n") == [b"", b"", b"a"]


def test_nothing_is_left_after_a_flush():
    splitter = LineSplitter()
    splitter.feed(b"x")
    assert splitter.flush() == [b"x"]
    assert splitter.flush() == []
    assert splitter.feed(b"y\n") == [b"y"]


def test_an_endless_line_is_kept_up_to_the_bound_and_says_what_is_gone():
    splitter = LineSplitter(max_line_bytes=10)
    assert fed(splitter, b"0123456", b"789abc", b"def\nnext\n") == [
        b"0123456789 [6 more bytes of this line dropped]",
        b"next",
    ]


def test_a_long_line_in_one_piece_reads_as_one_in_many():
    line = b"x" * 25
    whole = fed(LineSplitter(max_line_bytes=10), line + b"\n")
    assert whole == fed(
        LineSplitter(max_line_bytes=10), *(line[at : at + 3] for at in range(0, 25, 3)), b"\n"
    )
    assert whole == [b"x" * 10 + b" [15 more bytes of this line dropped]"]


def test_an_endless_line_does_not_fill_the_memory():
    splitter = LineSplitter(max_line_bytes=1_000)
    for _ in range(1_000):
        splitter.feed(b"x" * 1_000)
    assert sum(map(len, splitter._pieces)) == 1_000


@given(
    st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\x00", b"\n")), max_size=10),
    st.integers(1, 20),
)
def test_the_lines_do_not_depend_on_the_cuts(pieces, limit):
    data = b"".join(pieces)
    whole, cut, single = (LineSplitter(max_line_bytes=limit) for _ in range(3))
    expected = whole.feed(data) + whole.flush()
    assert fed(cut, *pieces) + cut.flush() == expected
    assert fed(single, *(data[at : at + 1] for at in range(len(data)))) + single.flush() == expected


@given(st.binary(max_size=200))
def test_the_lines_are_the_bytes_between_the_newlines(data):
    splitter = LineSplitter()
    lines = splitter.feed(data) + splitter.flush()
    wanted = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    assert lines == (wanted if data and not data.endswith(b"\n") else wanted[:-1])
