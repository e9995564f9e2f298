"""README's example runs as it stands, where there is its image; before Airflow 3.3 `test_dag_test` runs it."""

import pytest


@pytest.mark.newest
def test_the_readmes_example_runs_as_it_stands(run_of, cluster):
    if cluster is None:
        pytest.skip("its image is a local one")
    run = run_of("shop")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    wanted = {"land_orders", "build.dbt_build", "build.customers.test", "build.enough", "publish"}
    assert wanted <= run.tasks.keys()
    assert run.tasks["build.dbt_build"].try_number == 1
