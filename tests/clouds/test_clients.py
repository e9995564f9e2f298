"""The way of each provider's operator and trigger to a cluster, without an Airflow that runs."""

import asyncio
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("moto", reason="the providers are large; `nox -s clouds` installs them")

from airflow.providers.amazon.aws.operators.eks import EksPodOperator
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.google.cloud.operators.kubernetes_engine import GKEStartPodOperator
from airflow.sdk import DAG
from kubernetes_asyncio.client import CoreV1Api

from dbt_watch import dbt_k8s_project
from dbt_watch.airflow.pod_trigger import StockPodTrigger, serialized
from dbt_watch.exceptions import ArgumentError

GKE = {"project_id": "shop", "location": "europe-west4", "cluster_name": "dbt"}
EKS = {"cluster_name": "dbt", "region": "eu-central-1"}
CLOUDS = {"gke": (GKEStartPodOperator, GKE), "eks": (EksPodOperator, EKS)}


@pytest.fixture
def signed_in(google, amazon, monkeypatch, tmp_path):
    """The connections of both clouds in the environment, as the processes of an Airflow have it."""
    connections = {
        "google_cloud_default": {"conn_type": "google_cloud_platform", "extra": google.connection},
        "aws_default": {"conn_type": "aws", **amazon.connection},
    }
    environment = {
        **google.environment,
        **amazon.environment,
        **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def deferral(operator_class, **arguments):
    """Return the trigger that an operator defers to, as ours takes it over."""
    given = []

    class Deferring(operator_class):
        def defer(self, *, trigger, **_):
            given.append(trigger)

    dbt_build = Deferring(task_id="dbt_build", image="shop:1", namespace="dbt", **arguments)
    dbt_build.pod = SimpleNamespace(metadata=SimpleNamespace(name="shop", namespace="dbt"), status=None)
    dbt_build.invoke_defer_method()
    return serialized(given[0], dbt_build)


@pytest.fixture(params=CLOUDS)
def deferred(request, signed_in):
    operator_class, arguments = CLOUDS[request.param]
    return deferral(
        operator_class,
        kubernetes_conn_id=None,
        on_kill_action="keep_pod",
        termination_grace_period=7,
        **arguments,
    )


def listed(stock):
    async def ask():
        async with stock.connect() as connection:
            return (await CoreV1Api(connection).list_namespaced_pod("dbt")).items

    return ask()


def test_there_is_a_client_of_the_cluster_before_the_operators_own_trigger_runs_and_afterwards(deferred):
    async def twice():
        stock = StockPodTrigger(*deferred)
        first = await listed(stock)
        await stock.close()
        second = await listed(stock)
        await stock.close()
        return first, second

    assert asyncio.run(twice()) == ([], [])


def test_credentials_that_are_refused_are_read_anew(deferred, kube):
    async def go_on():
        stock = StockPodTrigger(*deferred)
        await listed(stock)
        kube.faults.expire_credentials()
        stock.forget_credentials()
        found = await listed(stock)
        await stock.close()
        return found

    assert asyncio.run(go_on()) == []


def test_what_the_operator_does_with_a_pod_that_is_stopped_is_known_to_the_trigger(deferred):
    stock = StockPodTrigger(*deferred)
    assert (stock.deletes_when_killed, stock.grace_period) == (False, 7)


@pytest.fixture
def make(project):
    """Return a function that makes a project, and gives its producer."""

    def make(operator_class, **arguments):
        with DAG("shop", schedule=None) as dag:

            @dbt_k8s_project(
                project / "target/manifest.json", image="shop:1", operator_class=operator_class, **arguments
            )
            def build(): ...

            build()
        return dag.get_task("build.dbt_build")

    return make


@pytest.mark.parametrize(
    ("operator_class", "arguments", "words"),
    [
        (
            GKEStartPodOperator,
            {"location": "here"},
            "cluster_name=None: expected a value: GKEStartPodOperator",
        ),
        (GKEStartPodOperator, {}, r"cluster_name=None: .* \(and location\)"),
        (GKEStartPodOperator, {**GKE, "region": "here"}, "region='here': .* this one is unknown"),
        (
            GKEStartPodOperator,
            {**GKE, "config_file": "file"},
            "config_file='file': expected what GKEStart.* allows",
        ),
        (
            EksPodOperator,
            {"region": "here"},
            "cluster_name=None: expected a value: EksPodOperator requires it",
        ),
        (EksPodOperator, {**EKS, "location": "here"}, "location='here': .* this one is unknown"),
        (EksPodOperator, {**EKS, "config_file": "file"}, "config_file='file': expected what EksPod.* allows"),
        (
            EksPodOperator,
            {**EKS, "name": "shop"},
            "name='shop': expected nothing: EksPodOperator sets it itself",
        ),
    ],
)
def test_an_argument_that_the_class_does_not_take_or_lacks_is_named_while_the_dag_is_parsed(
    make, operator_class, arguments, words
):
    with pytest.raises(ArgumentError, match=words):
        make(operator_class, **arguments)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_producer_is_of_the_class_with_its_arguments_and_template_fields(make, cloud):
    operator_class, arguments = CLOUDS[cloud]
    producer = make(operator_class, namespace="dbt", deferrable=True, **arguments)
    assert isinstance(producer, operator_class)
    assert {name: getattr(producer, name) for name in arguments} == arguments
    assert {*operator_class.template_fields, "build"} == {*producer.template_fields}
    assert (producer.namespace, producer.deferrable) == ("dbt", True)


def test_a_kubeconfig_of_the_kubernetes_connection_is_a_second_way_to_a_cluster(
    signed_in, monkeypatch, tmp_path
):
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(tmp_path / "kubeconfig")}}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
    stock = StockPodTrigger(*deferral(EksPodOperator, **EKS))
    with pytest.raises(AirflowException, match="exclusive"):
        asyncio.run(listed(stock))
