"""What an editor offers of the operator's arguments, against the operator that is installed."""

import inspect

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.operators.python import PythonOperator

from dbt_watch.authoring.pod_arguments import known_arguments, parameters_of, watching_class
from dbt_watch.authoring.pod_types import FunctionArguments, PodArguments

OFFERED = set(PodArguments.__annotations__)
# The one is refused, the other is made from `dbt_build`.
NOT_OFFERED = {"get_logs", "arguments"}
NEWER_THAN_THE_OLDEST = {
    "durable",
    "log_events_on_startup",
    "on_kill_action",
    "runtime_class_name",
    "xcom_sidecar_container_security_context",
}


def test_every_argument_of_the_operator_is_offered():
    taken = set(inspect.signature(KubernetesPodOperator.__init__).parameters) - {"self", "kwargs"}
    missing = taken - OFFERED - NOT_OFFERED
    if missing:
        # It works all the same; only for a type checker it needs `operator_class` beside it.
        pytest.xfail(f"this provider is newer than pod_types.py: {sorted(missing)}")
    assert not NOT_OFFERED & OFFERED


def test_nothing_is_offered_that_the_operator_does_not_take():
    unknown = OFFERED - known_arguments(watching_class(None))
    assert unknown in (set(), NEWER_THAN_THE_OLDEST)


# The decorator sets these, and refuses the last one.
NOT_OFFERED_FOR_A_FUNCTION = {"python_callable", "op_args", "op_kwargs", "dag", "task_group", "trigger_rule"}
TASK_ARGUMENTS_NEWER_THAN_THE_OLDEST = {"retry_policy", "render_template_as_native_obj"}


def test_every_argument_of_a_python_task_is_offered_for_a_function_bound_to_a_node():
    missing = (
        parameters_of(PythonOperator) - set(FunctionArguments.__annotations__) - NOT_OFFERED_FOR_A_FUNCTION
    )
    if missing:
        pytest.xfail(f"this Airflow is newer than pod_types.py: {sorted(missing)}")
    assert not NOT_OFFERED_FOR_A_FUNCTION & set(FunctionArguments.__annotations__)


def test_nothing_is_offered_that_a_python_task_does_not_take():
    unknown = set(FunctionArguments.__annotations__) - parameters_of(PythonOperator) - {"multiple_outputs"}
    assert unknown <= TASK_ARGUMENTS_NEWER_THAN_THE_OLDEST
