"""What an author may say of a profile, and how it looks when it is shown."""

import copy
import json
import pickle

import pytest
from connections import POSTGRES, SNOWFLAKE, connection

from dbt_watch import DbtProfile
from dbt_watch.exceptions import ArgumentError


@pytest.mark.parametrize(
    ("arguments", "argument", "expected"),
    [
        ({"conn_id": ""}, "conn_id", "text"),
        ({"conn_id": 7}, "conn_id", "text"),
        ({"target": ""}, "target", "text"),
        ({"schema": 7}, "schema", "text, or None"),
        ({"threads": 0}, "threads", "a number of threads"),
        ({"threads": True}, "threads", "a number of threads"),
        ({"type": "postgre"}, "type", "did you mean postgres"),
        ({"to_profile": "f"}, "to_profile", "a function that takes a connection"),
        ({"extra": ["a"]}, "extra", "a dict of fields"),
        ({"extra": {"threads": 4}}, "extra['threads']", "DbtProfile(..., threads=...)"),
    ],
)
def test_a_wrong_argument_is_refused_by_its_name(arguments, argument, expected):
    with pytest.raises(ArgumentError) as raised:
        DbtProfile(**{"conn_id": "warehouse", **arguments})
    assert str(raised.value).startswith(f"DbtProfile: {argument}=")
    assert expected in str(raised.value)


def test_no_value_of_what_may_be_secret_is_shown():
    profile = DbtProfile(
        "warehouse", schema="marts", extra={"password": "s3cret-word"}, to_profile=lambda _: {"type": "x"}
    )
    assert repr(profile).startswith(
        "DbtProfile(conn_id='warehouse', schema='marts', extra={'password': ...}, to_profile="
    )
    assert "s3cret" not in repr(profile)
    assert "s3cret" not in repr(profile.file(POSTGRES))
    assert "s3cret" not in repr(DbtProfile("warehouse", type="postgres", schema="marts").file(POSTGRES))


def test_it_can_be_copied_and_compared_but_not_changed():
    profile = DbtProfile("warehouse", type="postgres", schema="marts", extra={"role": "dbt"})
    assert copy.deepcopy(profile) == pickle.loads(pickle.dumps(profile)) == profile  # noqa: S301 - our own
    assert hash(profile) == hash(copy.copy(profile))
    with pytest.raises(AttributeError):
        profile.conn_id = "another"


@pytest.mark.parametrize("kind", ["postgres", "redshift", "bigquery"])
def test_a_schema_is_asked_for_where_no_connection_has_a_place_for_it(kind):
    with pytest.raises(ArgumentError, match=r"a schema=\.\.\. for dbt to build in"):
        DbtProfile("warehouse").check_for(kind)
    DbtProfile("warehouse", schema="marts").check_for(kind)


def test_the_adapter_of_the_manifest_is_the_type_unless_another_is_given():
    DbtProfile("warehouse").check_for("snowflake")
    assert DbtProfile("warehouse").output(SNOWFLAKE, adapter_type="snowflake")["type"] == "snowflake"
    DbtProfile("warehouse", type="snowflake").check_for("duckdb")
    with pytest.raises(ArgumentError, match="the adapter of the manifest='trino': expected one of postgres"):
        DbtProfile("warehouse").check_for("trino")
    with pytest.raises(ArgumentError, match="the manifest does not name the adapter"):
        DbtProfile("warehouse").check_for(None)


def test_a_function_makes_the_profile_of_any_other_warehouse():
    found = connection("trino", host="trino.example", login="dbt", password="s3cret-word")
    profile = DbtProfile(
        "warehouse",
        schema="marts",
        threads=4,
        to_profile=lambda found: {"host": found.host, "user": found.login, "password": found.password},
    )
    profile.check_for("trino")
    assert profile.output(found, adapter_type="trino") == {
        "type": "trino",
        "host": "trino.example",
        "user": "dbt",
        "password": "s3cret-word",
        "schema": "marts",
        "threads": 4,
    }


@pytest.mark.parametrize("made", [None, ["host"], {7: "x"}])
def test_a_function_that_returns_no_fields_is_refused(made):
    profile = DbtProfile("warehouse", type="trino", to_profile=lambda _: made)
    with pytest.raises(ArgumentError, match="a function that returns a dict"):
        profile.output(connection("trino"))


def test_a_value_that_no_file_can_hold_is_refused_by_its_place_alone():
    profile = DbtProfile("warehouse", type="trino", to_profile=lambda _: {"password": {"a": b"s3cret"}})
    with pytest.raises(ArgumentError, match=r"password.a: a bytes") as raised:
        profile.file(connection("trino"))
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(("asked", "target"), [(None, "default"), ("prod", "prod")])
def test_the_one_target_is_the_one_that_dbt_is_called_with(asked, target):
    profile = DbtProfile("warehouse", type="postgres", schema="marts")
    made = json.loads(profile.file(POSTGRES, project_name="shop", target=asked).text)
    assert made["shop"]["target"] == target
    assert set(made["shop"]["outputs"]) == {target}


def test_templates_are_rendered_before_the_connection_is_read():
    profile = DbtProfile("{{ params.where }}", schema="{{ ds_nodash }}", target="{{ params.target }}")
    rendered = profile.rendered(lambda text: text.strip("{ }"))
    assert (rendered.conn_id, rendered.schema, rendered.target) == (
        "params.where",
        "ds_nodash",
        "params.target",
    )
    with pytest.raises(ArgumentError, match="conn_id=''"):
        profile.rendered(lambda _: "")
