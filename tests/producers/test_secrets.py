"""What of a producer's values Airflow would hide, and that it stays hidden."""

import pytest
from airflow.sdk.log import mask_secret

from dbt_watch.airflow.secrets import redact
from dbt_watch.producers.secrets import hide, secrets_in


@pytest.mark.parametrize(
    ("values", "secrets"),
    [
        ({"vars": {"batch": "2026-01-01", "api_token": "n0t-to-be-seen"}}, ["n0t-to-be-seen"]),
        ({"WAREHOUSE_PASSWORD": "from-the-environment", "HOME": "/root"}, ["from-the-environment"]),
        ({"vars": {"hosts": [{"password": "deep-in-a-list"}]}}, ["deep-in-a-list"]),
        ({"vars": "{day: x}", "TOKEN": None}, []),
        ({"vars": None}, []),
        ({"vars": {"api_token": ["one-of-two", "two-of-two"]}}, ["one-of-two", "two-of-two"]),
    ],
)
def test_what_stands_under_a_name_that_airflow_hides_is_secret(values, secrets):
    assert secrets_in(values) == secrets


def test_of_a_text_only_what_airflow_knows_for_a_secret_is_one():
    mask_secret("pa55-of-a-connection")
    assert secrets_in({"vars": {"url": "postgres://shop:pa55-of-a-connection@db"}}) == [
        "pa55-of-a-connection"
    ]


def test_of_a_text_with_several_secrets_all_is_one_from_the_first_to_the_last():
    mask_secret("us3r-of-a-connection")
    mask_secret("pa55-of-a-connection")
    assert secrets_in({"vars": {"url": "postgres://us3r-of-a-connection:pa55-of-a-connection@db"}}) == [
        "us3r-of-a-connection:pa55-of-a-connection"
    ]


def test_of_what_airflow_cannot_look_through_all_is_secret(monkeypatch):
    """Airflow shows `<redaction-failed>` in its place."""
    monkeypatch.setattr(
        "dbt_watch.producers.secrets.redact", lambda values: {**values, "vars": "<redaction-failed>"}
    )
    assert secrets_in({"vars": {"hosts": ["db-1", {"port": "5432"}], "retries": 3}, "HOME": "/root"}) == [
        "5432",
        "db-1",
    ]
    assert secrets_in({"vars": "{day: x}"}) == ["{day: x}"]


def test_what_is_hidden_is_taken_out_of_texts_and_of_values_in_them():
    hide(["s3cr3t-of-this-test"])
    assert redact("no s3cr3t-of-this-test here") == "no *** here"
    assert redact({"_message": "s3cr3t-of-this-test"}) == {"_message": "***"}
    assert redact(None) is None
