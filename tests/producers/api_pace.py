"""
Lets what asks a server do so without long waits, and be as patient with it as in earnest.

A test in which patience is to run out says by `soon_given_up` which.
"""

from dbt_watch.producers.api import earlier_invocations, invocation_log, protocol

PACES = {
    protocol: {
        "BACKOFF_FIRST": 0.01, "BACKOFF_LIMIT": 0.02, "CREDENTIALS_PATIENCE": 60.0, "POST_PATIENCE": 60.0,
        "ABORT_PATIENCE": 60.0, "PLAIN_404_PATIENCE": 0.3, "LONGEST_WAIT": 0.05,
    },
    invocation_log: {
        "LOG_PAUSE_FIRST": 0.01, "LOG_PAUSE_LIMIT": 0.01, "LOG_POLL_FIRST": 0.01, "LOG_POLL_LIMIT": 0.03, "STATE_POLL_FIRST": 0.01, "STATE_POLL_LIMIT": 0.03,
        "LOST_POLL": 0.02, "LOST_AFTER": 0.1, "PATIENCE": 60.0, "REST_PATIENCE": 60.0,
    },
    earlier_invocations: {"POLL": 0.02},
}  # fmt: skip


def hurry(monkeypatch):
    for module, constants in PACES.items():
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)


def soon_given_up(monkeypatch, *names):
    """Let kinds of patience run out after some dozens of tries, each of which costs a request."""
    for module, constants in PACES.items():
        for name in constants.keys() & set(names):
            monkeypatch.setattr(module, name, 0.5)
