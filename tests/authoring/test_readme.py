"""README's example is a DAG as it stands; `tests/e2e` runs it."""

import runpy

import pytest


@pytest.fixture
def shop(readme_dag, tmp_path):
    readme_dag(tmp_path)
    return runpy.run_path(str(tmp_path / "shop.py"))["shop"]()


def test_the_readmes_example_builds_what_it_says(shop):
    tasks = shop.task_dict
    assert {
        "land_orders",
        "build.dbt_build",
        "build.customers",
        "build.customers.test",
        "build.enough",
        "build.stg_orders",
    } <= tasks.keys()
    assert "build.order_status_history" not in tasks, "only what is tagged nightly, and what it needs"
    assert tasks["build.dbt_build"].upstream_task_ids == {"land_orders"}
    assert tasks["publish"].upstream_task_ids == {"build.customers.test"}
    assert tasks["build.dbt_build"].retries == 2
