"""The demo's environment, for more than the one run that the demo makes."""

from dbt_watch.local.demo.environment import PROJECT, DemoEnvironment

ORDERS = "build.orders"


def test_a_node_that_is_cleared_finds_what_the_run_before_has_built():
    with DemoEnvironment() as environment:
        environment.set_up(lambda step: None, timeout=240)
        airflow = environment.airflow
        run_id = airflow.trigger_dag(PROJECT)
        assert airflow.wait_for_run(PROJECT, run_id) == "success"
        airflow.client.clear_tasks(PROJECT, run_id, [ORDERS])
        airflow.wait_for_run(PROJECT, run_id)
        states = {task.task_id: task.state for task in airflow.client.task_instances(PROJECT, run_id)}
        assert states[ORDERS] == "success", airflow.client.task_log(PROJECT, run_id, ORDERS, 2)
        assert len(environment.kube.pods()) == 2
