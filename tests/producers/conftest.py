"""What the tests of producers share: their sensors never end, so nobody waits for them."""

import pytest

from dbt_watch.producers import waiting


@pytest.fixture(autouse=True)
def sensors_are_not_waited_for(monkeypatch):
    """`test_waiting_for_sensors` says otherwise."""
    monkeypatch.setattr(waiting, "ENDS_AFTER_ANOTHER", 0.0)
