"""What a server is asked for: dbt's arguments with the variables among them, and long selections in few words."""

import pytest

from dbt_watch.core.command import LONG_WORD, Selection, server_arguments
from dbt_watch.exceptions import ArgumentError

FLAGS = ["--log-format", "json", "--log-level", "debug", "--no-use-colors"]


def test_a_build_has_its_variables_and_no_places():
    build = {
        "vars": {"day": "monday"},
        "target": "prod",
        "threads": 4,
        "full_refresh": "true",
        "leading": ["dbt"],
    }
    assert server_arguments(build, Selection(select=("tag:nightly",), exclude=("orders",))) == [
        *FLAGS, "build", "--target", "prod", "--threads", "4", "--vars", '{"day": "monday"}', "--full-refresh",
        "--select", "tag:nightly", "--exclude", "orders", "--indirect-selection", "eager",
    ]  # fmt: skip


def test_variables_may_be_text_and_may_be_none():
    assert "--vars" not in server_arguments({}, Selection())
    arguments = server_arguments({"vars": "{day: monday}"}, Selection())
    assert arguments[arguments.index("--vars") + 1] == "{day: monday}"


def test_sources_are_checked_by_their_names():
    selection = Selection(sources=("source:shop.raw.orders",), builds=False)
    assert server_arguments({"target": "prod"}, selection) == [
        *FLAGS, "source", "freshness", "--target", "prod", "--select", "source:shop.raw.orders",
    ]  # fmt: skip


def test_thousands_of_criteria_are_a_few_words_that_hold_all_of_them():
    criteria = tuple(f"fqn:shop.marts.model_{number},resource_type:model" for number in range(3_000))
    arguments = server_arguments({}, Selection(select=criteria, indirect_selection="empty"))
    words = arguments[arguments.index("--select") + 1 : arguments.index("--indirect-selection")]
    assert len(words) < 10
    assert all(len(word) <= LONG_WORD for word in words)
    assert tuple(" ".join(words).split()) == criteria


def test_a_few_criteria_stay_words_of_their_own():
    assert server_arguments({}, Selection(select=("a", "b")))[-5:-2] == ["--select", "a", "b"]


def test_a_value_of_the_wrong_kind_is_named():
    with pytest.raises(ArgumentError, match="threads='many'"):
        server_arguments({"threads": "many"}, Selection())
