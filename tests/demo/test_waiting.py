"""One way to wait for what can only be asked for."""

import pytest

from dbt_watch.local.airflow.waiting import CannotRun, wait_for


def test_the_first_true_answer_is_returned():
    answers = iter([None, "", "here", "later"])
    assert wait_for(lambda: next(answers), 5, "it is not here", pause=0) == "here"


def test_what_does_not_come_in_time_is_said_with_the_timeout():
    with pytest.raises(CannotRun, match=r"^it is not here after 0 s$"):
        wait_for(lambda: False, 0, "it is not here")


def test_what_is_the_matter_may_be_found_out_at_the_end():
    asked = []
    with pytest.raises(CannotRun, match="asked once"):
        wait_for(lambda: asked.append(1), 0, lambda: f"asked {'once' if len(asked) == 1 else 'again'}")


def test_what_the_condition_raises_ends_the_wait():
    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: 1 / 0, 60, "it is not here")
