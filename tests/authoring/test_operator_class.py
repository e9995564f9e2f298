"""Arguments are checked against the class that is given, while the DAG is parsed."""

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import DAG

from dbt_watch import dbt_k8s_project
from dbt_watch.exceptions import ArgumentError


class OfACloud(KubernetesPodOperator):
    """As the operators of clouds are: with arguments of its own, some that it sets, one that it does not allow."""

    def __init__(self, location, cluster_name, pod_name=None, **kwargs):
        super().__init__(name=pod_name, trigger_kwargs={"cluster": cluster_name}, **kwargs)
        self.location = location
        self.cluster_name = cluster_name
        if self.config_file:
            raise AirflowException("config_file is not an allowed parameter for OfACloud.")


class OfOurs(OfACloud):
    """Of a company that has one cluster."""

    def __init__(self, **kwargs):
        super().__init__(location="here", cluster_name="dbt", **kwargs)


class Broken(KubernetesPodOperator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        raise TypeError("nothing to do with an argument")


@pytest.fixture
def make(project):
    """Return a function that makes a project, and gives its producer."""

    def make(operator_class, default_args=None, **arguments):
        manifest = project / "target/manifest.json"
        with DAG("shop", schedule=None, default_args=default_args or {}) as dag:

            @dbt_k8s_project(manifest, image="shop:1", operator_class=operator_class, **arguments)
            def build(): ...

            build()
        return dag.get_task("build.dbt_build")

    return make


def refusal(make, operator_class, **arguments):
    with pytest.raises(ArgumentError) as raised:
        make(operator_class, **arguments)
    return str(raised.value)


def test_an_argument_that_the_class_requires_is_named(make):
    words = refusal(make, OfACloud, location="here")
    assert words == "cluster_name=None: expected a value: OfACloud requires it"


def test_all_that_it_requires_are_named(make):
    assert refusal(make, OfACloud).endswith("OfACloud requires it (and location)")


def test_an_argument_that_nobody_knows_is_named_with_the_nearest(make):
    words = refusal(make, OfACloud, location="here", cluster_nam="dbt")
    assert words.startswith("cluster_nam='dbt'")
    assert "did you mean cluster_name" in words


@pytest.mark.parametrize("argument", ["name", "trigger_kwargs"])
def test_an_argument_that_the_class_sets_itself_is_refused(make, argument):
    words = refusal(make, OfOurs, **{argument: "x"})
    assert words == f"{argument}='x': expected nothing: OfOurs sets it itself"


def test_an_argument_that_the_class_does_not_allow_is_refused_in_its_words(make):
    words = refusal(make, OfOurs, config_file="kubeconfig")
    assert words.startswith("config_file='kubeconfig': expected what OfOurs allows: ")


def test_another_error_of_the_class_is_its_own(make):
    with pytest.raises(TypeError, match="nothing to do"):
        make(Broken)


def test_what_the_class_requires_may_come_from_its_subclass_or_from_the_default_arguments(make):
    assert make(OfOurs, pod_name="shop").cluster_name == "dbt"
    assert make(OfACloud, {"location": "here", "cluster_name": "there"}).cluster_name == "there"


def test_the_producer_has_the_arguments_of_the_class(make):
    producer = make(OfACloud, location="here", cluster_name="dbt", pod_name="shop", deferrable=True)
    assert (producer.location, producer.cluster_name, producer.name) == ("here", "dbt", "shop")
    assert (producer.deferrable, producer.task_type) == (True, "DbtOfACloud")
