"""One Airflow for all that can be tried on it; `test_local_airflow` ends it, and sees that nothing is left."""

import pytest

from dbt_watch.local.demo.environment import DemoEnvironment


@pytest.fixture(scope="session")
def stage():
    with DemoEnvironment() as stage:
        stage.set_up(lambda step: None, timeout=600)
        yield stage
