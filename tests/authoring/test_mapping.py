"""A project that is made once for each of some values: `partial`, `expand`, `expand_kwargs`."""

import pytest
from airflow.sdk import TriggerRule, task, task_group
from airflow.sdk.definitions.taskgroup import MappedTaskGroup

from dbt_watch import DbtProject, dbt_build, dbt_node
from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER


def body(region, day="today"):
    return dbt_build(vars={"region": region, "day": day})


def test_a_project_is_mapped_as_a_task_group_is(dag, decorate, serialized):
    @task
    def regions():
        return ["north", "south"]

    project = decorate(group_id="build")(body).partial(day="{{ ds }}").expand(region=regions())
    assert isinstance(project, DbtProject)
    assert isinstance(project.group, MappedTaskGroup)
    producer = dag.task_dict["build.dbt_build"]
    assert producer.get_closest_mapped_task_group().group_id == "build"
    assert "regions" in producer.upstream_task_ids
    assert "build.orders" in str(serialized(dag))


def test_sets_of_arguments_can_be_mapped(dag, decorate):
    decorate(group_id="build")(body).expand_kwargs([{"region": "north"}, {"region": "south", "day": "1"}])
    assert dag.task_dict["build.orders"].get_closest_mapped_task_group().group_id == "build"


def test_no_task_of_a_mapped_group_has_the_rule_that_airflow_refuses_there(dag, decorate):
    for mode in ("auto", "eager", "lineage"):
        decorate(group_id=mode, sensors=mode)(body).expand(region=["north"])
    rules = {item.task_id: item.trigger_rule for item in dag.tasks}
    assert TriggerRule.ALWAYS not in rules.values()
    assert rules["eager.orders"] is TriggerRule.ONE_SUCCESS
    assert rules["lineage.orders"] is TriggerRule.ALL_DONE
    assert ("auto.dbt_start" in rules) is STARTS_FROM_TRIGGER
    assert dag.task_dict["eager.dbt_start"].downstream_task_ids == {
        item.task_id for item in dag.tasks if item.task_type == "DbtNodeSensor" and "eager." in item.task_id
    }


def test_a_project_within_a_mapped_group_is_mapped_too(dag, decorate):
    @task_group
    def around(region):
        decorate(group_id="build", sensors="eager")(body)(region)

    around.expand(region=["north", "south"])
    assert dag.task_dict["around.build.orders"].trigger_rule is TriggerRule.ONE_SUCCESS
    assert dag.task_dict["around.build.dbt_build"].get_closest_mapped_task_group().group_id == "around"


def test_functions_are_bound_in_a_mapped_project(dag, decorate):
    @decorate(group_id="build")
    def build(region):
        @dbt_node("orders")
        def check(result, where): ...

        check(where=region)
        return dbt_build(vars={"region": region})

    build.expand(region=["north", "south"])
    assert dag.task_dict["build.check"].get_closest_mapped_task_group().group_id == "build"


@pytest.mark.parametrize(
    "call", [lambda f: f.expand(zone=["a"]), lambda f: f.partial(zone="a"), lambda f: f.expand()]
)
def test_arguments_that_the_function_has_not(dag, decorate, call):
    with pytest.raises(TypeError):
        call(decorate(group_id="build")(body))


def test_an_argument_cannot_be_fixed_twice(dag, decorate):
    with pytest.raises(TypeError, match="region"):
        decorate(group_id="build")(body).partial(region="a").partial(region="b")


def test_what_partial_has_set_stays_through_override(dag, decorate):
    factory = decorate(group_id="build")(body).partial(region="north").override(group_id="again")
    factory(day="2026-01-01")
    assert dag.task_dict["again.dbt_build"].build["vars"] == {"region": "north", "day": "2026-01-01"}
