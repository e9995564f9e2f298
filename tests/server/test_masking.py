"""What nobody sees."""

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from dbt_watch.server.masking import Masker, secrets_of, shown_command
from dbt_watch.server.worker.log_copy import LogCopy, copy_masked


def test_what_is_secret_is_known_by_its_name_or_by_where_it_comes_from():
    env = {"DB_PASSWORD": "sesame", "SCHEMA": "public"}
    command = ["run", "--vars", '{"api_token": "abcdef", "day": "monday", "deep": {"secret": ["wxyz"]}}']
    assert set(secrets_of(env, {"ANY": "from outside"}, command)) == {
        "sesame",
        "from outside",
        "abcdef",
        "wxyz",
    }


def test_a_short_value_is_not_masked_wherever_it_stands():
    assert secrets_of({"PASSWORD": "1"}, {}, []) == []


def test_a_command_is_shown_without_the_secrets_of_its_mappings():
    shown = shown_command(["run", "--vars", "{password: sesame, day: monday}", '--args={"token": "abc"}'])
    assert shown == ["run", "--vars", '{"password": "***", "day": "monday"}', '--args={"token": "***"}']
    assert shown_command(["run", "--vars", "{password: [sesame"])[2].startswith("***")


def test_a_secret_is_masked_also_where_it_stands_in_json():
    masker = Masker(['a"b\\c'])
    assert masker(json.dumps({"msg": 'it is a"b\\c'}).encode()) == b'{"msg": "it is ***"}'


@given(st.lists(st.sampled_from([b"x" * 700_000, b"ses", b"ame", b"sesame", b"\n", b"{}"]), max_size=12))
def test_a_secret_is_masked_however_the_log_comes_in_pieces(pieces):
    output = io.BytesIO()
    copy = LogCopy(output, Masker(["sesame"]))
    for piece in pieces:
        copy.feed(piece)
    copy.close()
    assert output.getvalue() == b"".join(pieces).replace(b"sesame", b"***")


def test_a_log_that_is_too_long_ends_with_a_whole_line_and_says_so():
    output = io.BytesIO()
    copy = LogCopy(output, Masker([]), limit=25)
    for _ in range(9):
        copy.feed(b"a line\n")
    copy.close()
    assert output.getvalue().splitlines()[:3] == [b"a line"] * 3
    assert b"longer than 25 bytes" in output.getvalue().splitlines()[3]
    assert output.getvalue().count(b"\n") == 4


def test_the_last_error_is_what_a_client_is_told():
    copy = LogCopy(io.BytesIO(), Masker([]))
    copy.feed(
        b'{"info": {"level": "error", "msg": "first"}}\n{"info": {"level": "error", "msg": "no\\ntable"}}\nbye\n'
    )
    assert copy.message() == "no table"


def test_an_artifact_is_copied_without_secrets(tmp_path):
    (tmp_path / "a").write_text("x" * 3_000_000 + "sesame")
    copy_masked(tmp_path / "a", tmp_path / "b", Masker(["sesame"]))
    assert (tmp_path / "b").read_text() == "x" * 3_000_000 + "***"
