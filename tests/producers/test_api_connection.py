"""What is read of an Airflow connection, and that no error tells what may be secret in it."""

import json
import ssl

import pytest
import trustme
from airflow.sdk import Connection

from dbt_watch.exceptions import ArgumentError
from dbt_watch.producers.api.connection import read_connection

SECRET = "pa55-of-the-server"  # noqa: S105 - no real one


def read(extra=None, **fields):
    given = {"host": "dbt.example", **fields}
    return read_connection(
        Connection(conn_id="dbt_api", conn_type="http", extra=json.dumps(extra or {}), **given)
    )


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "dbt.example"}, "http://dbt.example"),
        ({"host": "dbt.example", "schema": "https", "port": 8580}, "https://dbt.example:8580"),
        ({"host": "https://dbt.example/api/"}, "https://dbt.example/api"),
        ({"host": "https://dbt.example:81", "port": 82}, "https://dbt.example:82"),
        ({"host": "[::1]", "port": 8580}, "http://[::1]:8580"),
    ],
)
def test_the_address_is_that_of_airflows_http_hook(fields, url):
    assert read(**fields).base_url == url


@pytest.mark.parametrize(
    "host", ["", "ftp://dbt.example", f"http://airflow:{SECRET}@dbt.example", "http://[::1"]
)
def test_an_address_that_cannot_be_is_refused_without_being_shown(host):
    with pytest.raises(ArgumentError, match="connection dbt_api='host'") as caught:
        read(host=host)
    assert SECRET not in str(caught.value)


def test_an_unknown_extra_is_named_with_what_is_near():
    with pytest.raises(ArgumentError, match="connection dbt_api: extra='verfy'") as caught:
        read({"verfy": SECRET})
    assert "did you mean verify" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "fields", "secrets"),
    [
        ({}, {"login": "airflow", "password": SECRET}, [SECRET]),
        ({"bearer_token": SECRET}, {}, [SECRET]),
        ({"token": SECRET, "headers": {"X-Api-Key": "a-key", "X-Team": "data"}}, {}, [SECRET, "a-key"]),
        ({"oauth2": {"token_url": "https://login", "client_id": "airflow", "client_secret": SECRET}}, {}, [SECRET]),
        ({"cert": ["cert.pem", "key.pem", SECRET]}, {}, [SECRET]),
    ],
)  # fmt: skip
def test_what_signs_in_is_known_as_secret_and_not_shown(extra, fields, secrets):
    connection = read(extra, **fields)
    assert connection.secrets == secrets
    assert SECRET not in repr(connection)


@pytest.mark.parametrize(
    "extra",
    [
        {"token": SECRET, "bearer_token": 7},
        {"timeout": "soon"},
        {"timeout": 0},
        {"headers": [SECRET]},
        {"headers": {"X-Key": 7}},
        {"cert": []},
        {"cert": [7]},
        {"oauth2": SECRET},
        {"oauth2": {"token_url": "https://login", "client_id": "airflow"}},
        {"oauth2": {"token_url": "u", "client_id": "i", "client_secret": SECRET, "secret": SECRET}},
        {"oauth2": {"token_url": "u", "client_id": "i", "client_secret": SECRET, "token_endpoint_auth_method": "none"}},
    ],
)  # fmt: skip
def test_what_is_of_the_wrong_kind_is_an_error_that_tells_no_value(extra):
    with pytest.raises(ArgumentError, match="connection dbt_api") as caught:
        read(extra)
    assert SECRET not in str(caught.value)


def test_two_ways_to_sign_in_are_one_too_many():
    with pytest.raises(ArgumentError, match="login, bearer_token"):
        read({"token": SECRET}, login="airflow", password=SECRET)


@pytest.mark.parametrize(
    ("verify", "is_checked", "ca"),
    [(None, True, None), (True, True, None), ("true", True, None), (False, False, None), ("false", False, None), ("/ca.pem", True, "/ca.pem")],
)  # fmt: skip
def test_the_servers_certificate_is_checked_unless_it_is_said_otherwise(verify, is_checked, ca):
    connection = read({} if verify is None else {"verify": verify})
    assert (connection.verify, connection.ca) == (is_checked, ca)
    if ca is None:
        assert (connection.ssl_context().verify_mode == ssl.CERT_REQUIRED) is is_checked


def test_certificates_are_read_from_files(tmp_path):
    ca = trustme.CA()
    own = ca.issue_cert("airflow.example")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    context = read({"ca": str(tmp_path / "ca.pem"), "cert": str(tmp_path / "own.pem")}).ssl_context()
    assert len(context.get_ca_certs()) == 1
    with pytest.raises(ArgumentError, match=r"nowhere\.pem.*No such file"):
        read({"ca": str(tmp_path / "nowhere.pem")}).ssl_context()
