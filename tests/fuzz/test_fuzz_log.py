"""Two seconds of `nox -s fuzz`, and that it would find something."""

import fuzz_log


def test_two_seconds_of_fuzzing_find_nothing():
    tried, failures = fuzz_log.fuzz(2)
    assert failures == []
    assert set(tried) == {check.__name__ for check in fuzz_log.TARGETS}


def test_a_broken_promise_is_found_and_made_small(monkeypatch):
    def check_no_brace(data):
        assert b"{" not in data

    monkeypatch.setattr(fuzz_log, "TARGETS", {check_no_brace: fuzz_log.damaged_logs})
    _, (failure,) = fuzz_log.fuzz(30)
    assert failure.target == "check_no_brace"
    assert b"{" in failure.data
    assert "AssertionError" in failure.error
