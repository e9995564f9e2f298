"""What the tests of producers share."""

import pytest


@pytest.fixture(autouse=True)
def _no_sensors_to_wait_for(monkeypatch):
    """Let an attempt that is to be retried give up its sensors at once: in most tests there are none that would ever end."""
    monkeypatch.setattr("dbt_watch.producers.waiting.ENDS_AFTER_ANOTHER", 0.0)
