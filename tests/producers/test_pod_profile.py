"""The Secret of a pod's profile: there before the pod, owned by it, and never left behind, whatever fails between."""

import base64
import json
from types import SimpleNamespace

import pytest
from airflow.sdk import BaseHook, Connection
from kubernetes.client import ApiException
from kubernetes.client import models as k8s

from dbt_watch import DbtProfile
from dbt_watch.airflow import pods as pods_of_airflow
from dbt_watch.exceptions import ArgumentError
from dbt_watch.producers.pods import pod_profile
from dbt_watch.producers.pods.pod_profile import VOLUME, PodProfile, secret_name
from dbt_watch.profiles.profile_file import FILE_NAME

PASSWORD = "s3cret-word"  # noqa: S105 - made up
WAREHOUSE = {"conn_type": "postgres", "host": "db", "login": "dbt", "password": PASSWORD, "schema": "shop"}
POD = "shop-x7"


class Lost(Exception):
    """The answer to a request, or the request itself, was lost."""


class Cluster:
    """
    A cluster with Secrets and pods, which notes what it is asked for.

    :ivar fails: what a kind of request fails with, and whether it was done all the same
    """

    def __init__(self):
        self.asked = []
        self.secrets = {}
        self.pods = {}
        self.fails = {}

    def _ask(self, request, act):
        self.asked.append(request)
        error, is_done = self.fails.get(request, (None, True))
        result = act() if is_done else None
        if error is not None:
            raise error
        return result

    def create_namespaced_secret(self, namespace, body):
        assert namespace == "dbt"

        def create():
            if body.metadata.name in self.secrets:
                raise ApiException(status=409)
            self.secrets[body.metadata.name] = body

        return self._ask("create secret", create)

    def patch_namespaced_secret(self, name, namespace, patch):
        def give():
            self._find(self.secrets, name).metadata.owner_references = patch["metadata"]["ownerReferences"]

        return self._ask("patch secret", give)

    def delete_namespaced_secret(self, name, namespace):
        return self._ask(
            "delete secret", lambda: self.secrets.pop(self._find(self.secrets, name).metadata.name)
        )

    def create_pod(self, pod):
        def create():
            pod.metadata.uid = "uid-of-the-pod"
            self.pods[pod.metadata.name] = pod
            return pod

        return self._ask("create pod", create)

    def read_namespaced_pod(self, name, namespace):
        return self._ask("get pod", lambda: self._find(self.pods, name))

    def delete_pod(self, pod):
        return self._ask("delete pod", lambda: self.pods.pop(pod.metadata.name))

    @staticmethod
    def _find(found, name):
        if name not in found:
            raise ApiException(status=404)
        return found[name]


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()
    monkeypatch.setattr(pod_profile, "plain_pod_manager", lambda _: cluster)
    # What the provider asks again for takes it seconds.
    monkeypatch.setattr(pods_of_airflow, "generic_api_retry", lambda ask: ask)
    return cluster


@pytest.fixture
def connections(monkeypatch):
    found = {"warehouse": WAREHOUSE}
    monkeypatch.setattr(
        BaseHook, "get_connection", lambda conn_id: Connection(conn_id=conn_id, **found[conn_id])
    )
    return found


@pytest.fixture
def profile(cluster, connections):
    def make(profile=None, task_id="shop.dbt_build", adapter_type="postgres", **more):
        graph = SimpleNamespace(
            facts=SimpleNamespace(adapter_type=adapter_type),
            project_name="shop",
            nodes={"model.shop.orders": None},
        )
        ti = SimpleNamespace(dag_id="dag", run_id="run", task_id=task_id, map_index=-1)
        operator = SimpleNamespace(
            client=cluster,
            graph=graph,
            profile=profile or DbtProfile("warehouse", schema="marts"),
            render_template=lambda text, _: text.replace("{{ where }}", "warehouse"),
        )
        return PodProfile(operator, {"ti": ti}, "dbt")

    return make


def a_pod():
    base = k8s.V1Container(name="base", env=[k8s.V1EnvVar("OTHER", "value")])
    spec = k8s.V1PodSpec(containers=[k8s.V1Container(name="beside"), base])
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name=POD, namespace="dbt", labels={"dag_id": "dag"}), spec=spec
    )


def made(profile, cluster):
    """Make the pod, and return it."""
    profile.read({})
    pod = a_pod()
    profile.attach(pod, "base")
    return profile.make_with(pod, cluster.create_pod)


def test_the_secret_is_there_before_the_pod_which_owns_it_in_the_end(profile, cluster):
    made(profile(), cluster)
    assert cluster.asked == ["create secret", "create pod", "patch secret"]
    (secret,) = cluster.secrets.values()
    assert secret.metadata.owner_references == [
        {"apiVersion": "v1", "kind": "Pod", "name": POD, "uid": "uid-of-the-pod"}
    ]
    assert secret.metadata.labels == {"dag_id": "dag"}
    assert secret.immutable is True


def test_the_pod_shows_the_file_and_has_its_secrets_in_the_environment(profile, cluster):
    pod = made(profile(), cluster)
    (secret,) = cluster.secrets.values()
    content = {key: base64.b64decode(value).decode() for key, value in secret.data.items()}
    output = json.loads(content.pop(FILE_NAME))["shop"]["outputs"]["default"]
    assert (output["type"], output["user"], output["schema"]) == ("postgres", "dbt", "marts")
    (volume,) = pod.spec.volumes
    assert (volume.name, volume.secret.secret_name) == (VOLUME, secret.metadata.name)
    assert [item.key for item in volume.secret.items] == [FILE_NAME]
    beside, base = pod.spec.containers
    assert not beside.volume_mounts
    (mount,) = base.volume_mounts
    assert (mount.mount_path, mount.read_only) == ("/etc/dbt-watch", True)
    other, variable = base.env
    assert (other.name, other.value) == ("OTHER", "value")
    reference = variable.value_from.secret_key_ref
    assert content == {reference.key: PASSWORD}
    assert (reference.name, variable.name, variable.value) == (secret.metadata.name, reference.key, None)


def test_no_value_is_in_the_pod_or_in_what_is_shown(profile, cluster, caplog):
    one = profile()
    with caplog.at_level("DEBUG"):
        pod = made(one, cluster)
    text = f"{pod}{one!r}{vars(one)}{caplog.text}"
    assert PASSWORD not in text
    assert base64.b64encode(PASSWORD.encode()).decode() not in text
    assert PASSWORD in one.secrets


def test_what_an_earlier_attempt_has_left_is_replaced(profile, cluster):
    one = profile()
    cluster.secrets[one.name] = k8s.V1Secret(metadata=k8s.V1ObjectMeta(name=one.name), data={"old": ""})
    made(one, cluster)
    assert cluster.asked == ["create secret", "delete secret", "create secret", "create pod", "patch secret"]
    assert FILE_NAME in cluster.secrets[one.name].data


@pytest.mark.parametrize("is_done", [True, False])
def test_a_secret_that_may_be_there_though_the_answer_was_lost_is_deleted(profile, cluster, is_done):
    cluster.fails["create secret"] = (Lost(), is_done)
    with pytest.raises(Lost):
        made(profile(), cluster)
    assert cluster.asked == ["create secret", "delete secret"]
    assert not cluster.secrets


def test_the_connection_is_read_once(profile, cluster, connections):
    one = profile()
    one.read({})
    connections.clear()
    one.read({})
    assert PASSWORD in one.secrets


def test_without_the_secret_there_is_no_pod(profile, cluster):
    cluster.fails["create secret"] = (ApiException(status=403), False)
    with pytest.raises(ApiException):
        made(profile(), cluster)
    assert cluster.asked == ["create secret"]


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_without_the_pod_there_is_no_secret(profile, cluster, status):
    cluster.fails["create pod"] = (ApiException(status=status), False)
    with pytest.raises(ApiException) as raised:
        made(profile(), cluster)
    assert raised.value.status == status
    assert cluster.asked == ["create secret", "create pod", "delete secret"]
    assert not cluster.secrets


LOST = [
    ApiException(status=409),
    ApiException(status=500),
    ApiException(status=504),
    Lost(),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_a_pod_that_was_not_made_after_all_leaves_no_secret(profile, cluster, error):
    cluster.fails["create pod"] = (error, False)
    with pytest.raises(type(error)):
        made(profile(), cluster)
    assert cluster.asked == ["create secret", "create pod", "get pod", "delete secret"]
    assert not cluster.secrets


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_a_pod_that_was_made_though_the_answer_was_lost_keeps_its_secret_for_the_next_attempt(
    profile, cluster, error
):
    cluster.fails["create pod"] = (error, True)
    with pytest.raises(type(error)):
        made(profile(), cluster)
    assert cluster.asked == ["create secret", "create pod", "get pod", "patch secret"]
    (secret,) = cluster.secrets.values()
    assert secret.metadata.owner_references[0]["uid"] == "uid-of-the-pod"


def test_where_nothing_is_known_of_the_pod_the_secret_stays_for_the_next_attempt(profile, cluster, caplog):
    cluster.fails = {"create pod": (Lost(), True), "get pod": (Lost(), False)}
    with pytest.raises(Lost):
        made(profile(), cluster)
    assert len(cluster.secrets) == 1
    assert "may be left behind; the next attempt deletes it" in caplog.text


@pytest.mark.parametrize("is_done", [True, False])
def test_a_pod_that_cannot_be_given_its_secret_is_deleted_with_it(profile, cluster, is_done):
    cluster.fails["patch secret"] = (ApiException(status=403), is_done)
    with pytest.raises(ApiException):
        made(profile(), cluster)
    assert cluster.asked[-3:] == ["patch secret", "delete pod", "delete secret"]
    assert not cluster.secrets
    assert not cluster.pods


def test_a_pod_that_cannot_be_deleted_either_keeps_its_secret(profile, cluster, caplog):
    cluster.fails = {"patch secret": (Lost(), False), "delete pod": (Lost(), False)}
    with pytest.raises(Lost):
        made(profile(), cluster)
    assert len(cluster.secrets) == len(cluster.pods) == 1
    assert "could not be deleted" in caplog.text


def test_a_secret_that_cannot_be_deleted_changes_no_error(profile, cluster, caplog):
    cluster.fails = {"create pod": (ApiException(status=422), False), "delete secret": (Lost(), False)}
    with pytest.raises(ApiException) as raised:
        made(profile(), cluster)
    assert raised.value.status == 422
    assert "may be left" in caplog.text


def test_a_pod_that_is_taken_over_gets_its_secret_once_more(profile, cluster):
    one = profile()
    pod = made(one, cluster)
    cluster.secrets[one.name].metadata.owner_references = None
    profile().adopt(pod)
    assert cluster.secrets[one.name].metadata.owner_references[0]["uid"] == "uid-of-the-pod"


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_secret_that_is_gone_or_not_ours_does_not_keep_an_attempt_from_its_pod(
    profile, cluster, caplog, status
):
    pod = made(profile(), cluster)
    cluster.fails["patch secret"] = (ApiException(status=status), False)
    profile().adopt(pod)
    assert "may outlive pod shop-x7" in caplog.text


def test_a_pod_that_was_made_without_a_profile_is_taken_over_as_it_is(profile, cluster):
    profile().adopt(a_pod())
    assert not cluster.asked


def test_what_is_left_is_deleted_where_there_will_be_no_pod(profile, cluster):
    profile().discard()
    assert cluster.asked == ["delete secret"]


def test_each_task_has_a_name_of_its_own_for_all_its_attempts():
    def name(dag_id="dag", run_id="run", task_id="shop.dbt_build", map_index=-1, try_number=1):
        return secret_name(SimpleNamespace(**locals()))

    names = {name(), name("other"), name(run_id="other"), name(task_id="shop.orders"), name(map_index=0)}
    assert len(names) == 5
    assert name() == name(try_number=2) == name(map_index=None)
    assert all(len(each) <= 63 for each in names)


def test_the_target_that_dbt_is_called_with_is_that_of_the_file(profile, cluster):
    for asked, target in (("prod", "prod"), ("", "dev"), (None, "dev")):
        one = profile(DbtProfile("{{ where }}", schema="marts", target="dev"))
        one.read({"target": asked})
        assert json.loads(one._file.text)["shop"]["target"] == target


def test_what_the_connection_lacks_is_told_before_there_is_anything(profile, cluster, connections):
    connections["warehouse"] = {**WAREHOUSE, "host": ""}
    with pytest.raises(
        ArgumentError, match="connection warehouse: host=None: expected the address of the server"
    ):
        made(profile(), cluster)
    assert not cluster.asked
