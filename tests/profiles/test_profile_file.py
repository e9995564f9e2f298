"""profiles.yml as text: what dbt makes of it is what the connection says, and its secrets are in the environment."""

import base64
import json

import pytest
import yaml
from connections import BIGQUERY, KEY_FILE, PEM, POSTGRES, connection

from dbt_watch import DbtProfile
from dbt_watch.profiles.profile_file import is_secret_name, literal, secrets_of, write_profile

PASSWORD = "s3cret-word"


def outputs(file):
    (profile,) = yaml.safe_load(file.text).values()
    (output,) = profile["outputs"].values()
    return output


def test_a_secret_stands_in_the_environment_and_not_in_the_file():
    file = DbtProfile("warehouse", type="postgres", schema="marts").file(POSTGRES)
    assert outputs(file)["password"] == "{{ env_var('DBT_ENV_SECRET_PROFILE_PASSWORD') }}"
    assert file.variables == {"DBT_ENV_SECRET_PROFILE_PASSWORD": PASSWORD}
    assert PASSWORD not in file.text
    assert set(file.secrets) == {PASSWORD, base64.b64encode(PASSWORD.encode()).decode()}


def test_the_key_of_a_service_account_is_a_secret_and_so_is_each_of_its_lines():
    file = DbtProfile("warehouse", type="bigquery", schema="marts").file(BIGQUERY)
    key = outputs(file)["keyfile_json"]
    assert key["client_email"] == KEY_FILE["client_email"]
    assert file.variables == {"DBT_ENV_SECRET_PROFILE_KEYFILE_JSON_PRIVATE_KEY": PEM}
    assert {PEM, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"} <= set(file.secrets)
    assert not [secret for secret in file.secrets if secret.startswith("-----END")]


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short7!", "too short"),
        ("customers", "a word"),
        ("shop.customers", "a part of a node"),
    ],
)
def test_what_would_take_parts_out_of_the_log_stands_in_the_file_itself(password, why):
    file = write_profile("shop", "dev", {"password": password}, names=["model.shop.customers"])
    assert outputs(file)["password"] == password, why
    assert not file.variables
    assert password in file.secrets


def test_a_secret_is_one_under_any_name():
    file = write_profile(
        "shop", "dev", {"dsn_of_mine": f"db://dbt:{PASSWORD}@host"}, known_secrets=[PASSWORD]
    )
    assert PASSWORD not in file.text
    assert list(file.variables) == ["DBT_ENV_SECRET_PROFILE_DSN_OF_MINE"]


def test_the_adapter_is_none_even_where_it_is_the_password():
    file = write_profile(
        "shop", "dev", {"type": "s3cret-word", "password": PASSWORD}, known_secrets=[PASSWORD]
    )
    assert outputs(file)["type"] == "s3cret-word"


def test_variables_of_two_fields_have_two_names():
    file = write_profile(
        "shop", "dev", {"a": {"token": "first-one"}, "a_token": "other-one", "secrets": ["in-a-1st"]}
    )
    assert file.variables == {
        "DBT_ENV_SECRET_PROFILE_A_TOKEN": "first-one",
        "DBT_ENV_SECRET_PROFILE_A_TOKEN_2": "other-one",
        "DBT_ENV_SECRET_PROFILE_SECRETS_0": "in-a-1st",
    }


def test_what_the_author_writes_may_hold_templates_of_dbt_and_wins():
    file = write_profile(
        "shop",
        "dev",
        {"user": "{{ a }}", "role": "x"},
        verbatim={"role": "{{ env_var('ROLE') }}", "password": PASSWORD},
    )
    made = outputs(file)
    assert made["role"] == "{{ env_var('ROLE') }}"
    assert made["user"] == literal("{{ a }}") != "{{ a }}"
    assert file.variables == {"DBT_ENV_SECRET_PROFILE_PASSWORD": PASSWORD}


@pytest.mark.parametrize(
    "text",
    [
        "a: b # c",
        "- 'x\"",
        "\x7f\x85\u2028\ufeff",
        "ünïcode 🦆",
        "{x}",
        "\\n",
        "null",
        "1e3",
        "tab\tline\nend",
    ],
)
def test_any_text_comes_through_yaml_as_it_is(text):
    assert outputs(write_profile("shop", "dev", {"user": text}))["user"] == text


def test_numbers_switches_and_lists_stay_what_they_are():
    given = {"port": 5432, "autocommit": True, "scopes": ["a", "b"], "role": None, "ratio": 0.5}
    assert outputs(write_profile("shop", "dev", given)) == given


@pytest.mark.parametrize("value", [b"x", {1, 2}, object()])
def test_what_is_no_such_value_is_refused_by_its_place(value):
    with pytest.raises(TypeError, match=r"^a\.b: a "):
        write_profile("shop", "dev", {"a": {"b": value}})


@pytest.mark.parametrize(
    "name",
    ["password", "pass", "token", "refresh_token", "client_secret", "private_key", "private_key_passphrase", "secret_access_key",
     "motherduck_token", "OAUTH_CLIENT_SECRET", "api_key", "apikey"],
)  # fmt: skip
def test_names_of_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "user",
        "token_uri",
        "private_key_path",
        "access_key_id",
        "private_key_id",
        "token_endpoint",
        "passenger",
    ],
)
def test_names_of_others(name):
    assert not is_secret_name(name)


def test_secrets_of_a_connection_are_its_password_and_those_of_its_extra():
    extra = {
        "keyfile_dict": json.dumps(KEY_FILE),
        "nested": {"token": "t0ken"},
        "region": "eu",
        "secrets": ["a", "b"],
    }
    assert secrets_of(connection("x", extra, password=PASSWORD)) == [PASSWORD, PEM, "t0ken", "a", "b"]
    assert secrets_of(connection("x", {"token": "{not json"})) == ["{not json"]
