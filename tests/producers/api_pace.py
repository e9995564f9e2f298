"""Lets what asks a server do so without long waits, but long enough for a machine that does much else."""

from dbt_watch.producers.api import earlier_invocations, invocation_log, protocol

PACES = {
    protocol: {
        "BACKOFF_FIRST": 0.01, "BACKOFF_LIMIT": 0.02, "CREDENTIALS_PATIENCE": 4.0, "POST_PATIENCE": 4.0, "ABORT_PATIENCE": 4.0,
        "PLAIN_404_PATIENCE": 0.3, "LONGEST_WAIT": 0.05,
    },
    invocation_log: {
        "LOG_PAUSE": 0.01, "LOG_POLL_FIRST": 0.01, "LOG_POLL_LIMIT": 0.03, "STATE_POLL_FIRST": 0.01, "STATE_POLL_LIMIT": 0.03,
        "LOST_POLL": 0.02, "LOST_AFTER": 0.1, "PATIENCE": 4.0, "REST_PATIENCE": 4.0,
    },
    earlier_invocations: {"POLL": 0.02},
}  # fmt: skip


def hurry(monkeypatch):
    for module, constants in PACES.items():
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)
