"""Wrong input is refused while the DAG is parsed, by its name, its value and what was expected."""

import enum
import json
import re
from datetime import datetime

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG, task
from kubernetes.client import models as k8s

from dbt_watch import dbt_build, dbt_k8s_project, dbt_node
from dbt_watch.core.command import DbtBuild, Selection, dbt_arguments
from dbt_watch.exceptions import ArgumentError, ManifestError, SelectionError


@pytest.fixture
def make(project):
    """Make a project in a DAG of its own."""

    def make(body=lambda: None, **overrides):
        arguments = {"manifest": project / "target/manifest.json", "image": "shop:1", **overrides}

        def build():
            return body()

        with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)):
            return dbt_k8s_project(**arguments)(build)()

    return make


def refusal(error, make, *args, **kwargs):
    with pytest.raises(error) as caught:
        make(*args, **kwargs)
    return str(caught.value)


def test_a_missing_manifest(make, tmp_path):
    text = refusal(ManifestError, make, manifest=tmp_path / "nowhere/manifest.json")
    assert "manifest=" in text
    assert "nowhere/manifest.json" in text


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\x00\xff", json.dumps({"metadata": {}, "results": []}).encode(), b'{"nodes": 1}'],
)
def test_a_manifest_that_is_not_one(make, tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    text = refusal(ManifestError, make, manifest=path)
    assert str(path) in text
    assert "expected" in text


def test_a_manifest_of_the_wrong_type(make):
    assert "manifest=42: expected the path" in refusal(ArgumentError, make, manifest=42)


def test_a_relative_manifest_starts_at_the_file_of_the_function(make):
    assert "tests/authoring/target/manifest.json" in refusal(
        ManifestError, make, manifest="target/manifest.json"
    )


@pytest.mark.parametrize(
    "selection",
    [
        {"select": "tag:no_such_tag"},
        {"select": ["no_such_model"]},
        {"select": "orders", "exclude": "orders relationships* test_type:generic test_type:singular"},
    ],
)
def test_a_selection_that_matches_nothing(make, selection):
    text = refusal(SelectionError, make, **selection)
    for name, value in selection.items():
        assert f"{name}={value!r}" in text
    assert "at least one node" in text


def test_a_selection_that_cannot_be_known_while_a_dag_is_parsed(make):
    assert "state:modified" in refusal(SelectionError, make, select="state:modified")


def test_a_selection_of_the_wrong_type(make):
    assert "select=7: expected a selection in dbt's syntax" in refusal(ArgumentError, make, select=7)


def test_an_unknown_argument_with_what_is_near(make):
    text = refusal(ArgumentError, make, imge="shop:2")
    assert text.startswith("imge='shop:2': expected")
    assert "did you mean image" in text


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        *(
            (name, f"dbt_build({name}=...)")
            for name in DbtBuild.__struct_fields__
            if name not in {"select", "exclude"}
        ),
        ("install_deps", "deps=True"),
        ("test_behavior", "tests="),
        ("render_config", "select="),
        ("profile_config", "profiles_dir="),
        ("project_config", "manifest="),
        ("execution_config", "image="),
        ("operator_args", "arguments of the decorator"),
        ("models", "select="),
    ],
)
def test_what_people_try_who_know_other_tools_is_answered_with_what_to_write(make, argument, hint):
    text = refusal(ArgumentError, make, **{argument: 1})
    assert text.startswith(f"{argument}=1: expected ")
    assert hint in text
    assert "unknown" not in text


def test_an_operator_of_ones_own_may_have_such_an_argument(make):
    class Own(KubernetesPodOperator):
        def __init__(self, *, target=None, **kwargs):
            super().__init__(**kwargs)

    assert make(operator_class=Own, target="warehouse")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"retires": 2},
            "retires=2: expected an argument of @dbt_node or of Airflow's @task; .*did you mean retries",
        ),
        ({"image": "shop:1"}, "image='shop:1': expected to be left out inside a project"),
        ({"exclude": "a"}, "exclude='a': expected to be left out inside a project"),
        ({"build": 7}, "build=7: expected to be returned by the function under @dbt_k8s_project"),
    ],
)
def test_an_argument_that_a_bound_function_does_not_take(make, arguments, words):
    def body():
        dbt_node("customers", **arguments)(lambda result: None)

    assert re.match(words, refusal(ArgumentError, make, body))


def test_arguments_of_airflows_task_are_those_of_a_bound_function(make):
    def body():
        @dbt_node(
            "customers", retries=2, pool="slow", multiple_outputs=True, doc_md="x", task_id="other", queue="q"
        )
        def check(result): ...

        check()

    assert make(body)


def test_a_missing_image(make):
    text = refusal(ArgumentError, make, image=None)
    assert text.startswith("image=None: expected the image")


def test_a_pod_template_may_name_the_image_instead(make):
    assert make(image=None, pod_template_dict={"spec": {"containers": [{"name": "base", "image": "shop:1"}]}})


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("get_logs", False),
        ("arguments", ["build"]),
        ("task_id", "build"),
        ("trigger_rule", "all_done"),
    ],
)
def test_what_would_break_the_watching(make, argument, value):
    assert refusal(ArgumentError, make, **{argument: value}).startswith(f"{argument}={value!r}: expected ")


@pytest.mark.parametrize(
    "variables",
    [
        {"A": "1", "DBT_RESOURCE_TYPES": "model"},
        [k8s.V1EnvVar("A", "1"), k8s.V1EnvVar("DBT_ENGINE_RECORDER_MODE", "replay")],
    ],
)
def test_a_variable_that_would_have_dbt_build_something_else(make, variables):
    text = refusal(ArgumentError, make, env_vars=variables)
    assert text.startswith("env_vars=")
    assert ": expected variables without DBT_" in text


def test_variables_that_are_ours_or_harmless_may_be_given(make):
    assert make(env_vars={"DBT_QUIET": "1", "DBT_TARGET": "prod", "QUIET": "1"})
    assert make(group_id="again", env_vars="{{ params.variables }}")


@pytest.mark.parametrize(
    ("argument", "value"), [("tests", "every"), ("sensors", "lazy"), ("on_drift", "skip")]
)
def test_a_value_that_is_none_of_those_allowed(make, argument, value):
    assert f"{argument}={value!r}: expected one of " in refusal(ArgumentError, make, **{argument: value})


class CosmosTestBehavior(enum.Enum):
    """What astronomer-cosmos calls TestBehavior."""

    BUILD = "build"
    NONE = "none"
    AFTER_EACH = "after_each"
    AFTER_ALL = "after_all"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("each", "after_each"),
        ("node", "build"),
        ("one", "after_all"),
        *((member.name, member.value) for member in CosmosTestBehavior),
        *((member, member.value) for member in CosmosTestBehavior),
    ],
)
def test_another_name_of_a_way_to_test_is_answered_with_the_one_to_write(make, given, name):
    assert refusal(ArgumentError, make, tests=given) == f"tests={given!r}: expected {name!r}"


def test_another_operator(make):
    assert "operator_class=" in refusal(ArgumentError, make, operator_class=dict)


def test_a_function_that_returns_something_else(make):
    assert "expected dbt_build(...), or nothing" in refusal(ArgumentError, make, lambda: 42)


def bound_to(node, function):
    return lambda: dbt_node(node)(function) and None


def test_a_node_that_does_not_exist_with_what_is_near(make):
    text = refusal(ArgumentError, make, bound_to("custmers", lambda result: None))
    assert "node='custmers'" in text
    assert "customers" in text


def test_a_node_that_the_selection_leaves_out(make):
    text = refusal(ArgumentError, make, bound_to("customers", lambda result: None), select="raw_orders")
    assert "a node that has a task in this selection" in text


def test_a_bound_function_that_takes_no_result(make):
    assert "whose first parameter takes the NodeResult" in refusal(
        ArgumentError, make, bound_to("customers", lambda: None)
    )


def test_a_bound_function_outside_of_a_project():
    with pytest.raises(ArgumentError, match="inside a function under @dbt_k8s_project"):
        dbt_node("customers")(lambda result: None)


def test_an_unknown_node_of_a_project(make):
    project = make()
    assert "nope" not in project
    with pytest.raises(ArgumentError, match="node='nope'"):
        project["nope"]


def test_a_task_in_front_of_a_sensor_is_refused_with_what_to_write_instead(make, project):
    with DAG("other", schedule=None, start_date=datetime(2026, 1, 1)) as dag:

        @dbt_k8s_project(manifest=project / "target/manifest.json", image="shop:1")
        def build(): ...

        @task
        def land(): ...

        build()
        with pytest.raises(ArgumentError, match=r"land >> .*upstream of the project"):
            land() >> dag.task_dict["build.orders"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"full_refresh": "maybe"}, "full_refresh='maybe': expected a boolean"),
        ({"threads": "many"}, "threads='many': expected a number of threads"),
        ({"vars": [1]}, "vars=[1]: expected a dict"),
        ({"flags": "--warn-error"}, "flags='--warn-error': expected a list"),
    ],
)
def test_options_that_render_to_something_else(options, words):
    with pytest.raises(ArgumentError) as caught:
        dbt_arguments(options, Selection())
    assert words in str(caught.value)


def test_options_of_dbt_build_are_ours_to_name():
    with pytest.raises(TypeError, match="fullrefresh"):
        dbt_build(fullrefresh=True)


def test_the_decorator_without_parentheses():
    with pytest.raises(ArgumentError, match="arguments in parentheses"):

        @dbt_k8s_project
        def build(): ...


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("group_id", 7, "text, or None"),
        ("project_dir", "", "text, or None"),
        ("profiles_dir", ["a"], "text, or None"),
        ("selector", 1, "text, or None"),
        ("keep_entrypoint", "yes", "True or False"),
        ("deps", 1, "True or False"),
        ("on_warning_callback", "print", "a function that takes the context"),
        ("on_failure_callback", ["print"], "a function that takes the context"),
        ("on_success_callback", 3, "a function that takes the context"),
    ],
)
def test_an_argument_of_the_wrong_type(make, argument, value, expected):
    assert refusal(ArgumentError, make, **{argument: value}).startswith(
        f"{argument}={value!r}: expected {expected}"
    )
