"""`profile=` of a project: what is checked while the DAG is parsed, and what its tasks are made with."""

import json

import pytest
from airflow.sdk import DAG

from dbt_watch import DbtProfile, PodSettings, dbt_api_project, dbt_build, dbt_k8s_project, dbt_node
from dbt_watch.exceptions import ArgumentError

PROFILE = DbtProfile("warehouse", threads=4, extra={"motherduck_token": "t0ken-t0ken"})
PLACE = "/etc/dbt-watch"


@pytest.fixture
def make(decorate):
    def make(build=None, **arguments):
        def shop():
            return build

        with DAG("shop", schedule=None) as dag:
            project = decorate(**{"profile": PROFILE, **arguments})(shop)()
        return dag, project

    return make


def refusal(make, *args, **arguments):
    with pytest.raises(ArgumentError) as raised:
        make(*args, **arguments)
    assert "t0ken" not in str(raised.value)
    return str(raised.value)


def test_dbt_is_called_with_the_file_that_is_made(make):
    _, project = make()
    (pod,) = project.plan.pods
    words = list(pod.command)
    assert words[words.index("--profiles-dir") + 1] == PLACE
    assert words[words.index("--profile") + 1] == "jaffle_shop"
    assert project.producer.profile is PROFILE


def test_the_profile_may_have_another_name(make):
    _, project = make(profile=DbtProfile("warehouse", name="shop"))
    words = list(project.plan.pods[0].command)
    assert words[words.index("--profile") + 1] == "shop"


def test_packages_are_installed_with_it_too(make):
    _, project = make(deps=True)
    assert f"--profiles-dir {PLACE}" in project.producer.cmds[2]


def test_each_pod_of_a_split_project_has_it(make):
    dag, project = make(isolate={"customers": PodSettings(image="shop:2")})
    assert dag.get_task("shop.customers").profile is PROFILE
    assert project.producer.profile is PROFILE


def test_nothing_of_it_is_in_the_serialized_dag(make, serialized):
    dag, _ = make(profile=DbtProfile("warehouse", extra={"password": "s3cret-word"}))
    assert "s3cret-word" not in json.dumps(serialized(dag), default=str)


def test_a_node_outside_of_a_project_takes_it_too(project):
    with DAG("shop", schedule=None) as dag:

        @dbt_node("raw_orders", manifest=project / "target/manifest.json", image="shop:1", profile=PROFILE)
        def arrived(result): ...

        arrived()
    assert dag.get_task("arrived.dbt_build").profile is PROFILE


@pytest.mark.parametrize("value", ["warehouse", {"conn_id": "warehouse"}, DbtProfile])
def test_what_is_no_profile_is_refused(make, value):
    assert "expected DbtProfile(conn_id), or None" in refusal(make, profile=value)


def test_a_directory_of_profiles_beside_it_is_refused(make):
    assert refusal(make, profiles_dir="/etc/dbt").startswith(
        "profiles_dir='/etc/dbt': expected to be left out"
    )


@pytest.mark.parametrize(
    ("flags", "instead"),
    [
        (["--profile", "other"], "DbtProfile(..., name=...)"),
        (["--profiles-dir=/x"], "creates the file"),
        (["-t", "prod"], "dbt_build(target=...)"),
    ],
)
def test_flags_that_name_another_profile_are_refused(make, flags, instead):
    assert instead in refusal(make, dbt_build(flags=flags))
    make(dbt_build(flags=["--no-partial-parse"]))


def test_a_schema_that_no_connection_can_say_is_asked_for_while_the_dag_is_parsed(make):
    assert "a schema=... for dbt to build in" in refusal(
        make, profile=DbtProfile("warehouse", type="postgres")
    )


def test_the_pod_of_one_node_has_no_profile_of_its_own(make):
    with pytest.raises(ArgumentError, match="it applies to the whole project"):
        PodSettings(profile=PROFILE)


def test_a_server_has_its_own_profiles(project):
    @dbt_api_project(project / "target/manifest.json", profile=PROFILE)
    def build(): ...

    with DAG("shop", schedule=None), pytest.raises(ArgumentError, match="the server decides it"):
        build()


def test_another_profile_takes_its_place_by_override(project):
    @dbt_k8s_project(project / "target/manifest.json", image="shop:1", profile=PROFILE)
    def build(): ...

    other = DbtProfile("another")
    with DAG("shop", schedule=None) as dag:
        build.override(profile=other)()
    assert dag.get_task("build.dbt_build").profile is other
