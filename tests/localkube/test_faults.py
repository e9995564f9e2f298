"""What a client sees when something goes wrong in a cluster, through the official client."""

from __future__ import annotations

import json
import threading
import time

import pytest
import urllib3.exceptions
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube import LocalKube

from .conftest import TIMINGS, create, eventually, finished, log, manifest, running

FOREVER = "while :; do sleep 0.05; done"


@pytest.fixture(scope="module")
def kube(images):
    """A server of its own: what goes wrong here is not to go wrong elsewhere."""
    # Without namespaces too: none of the faults needs them.
    with LocalKube(images, timings=TIMINGS) as running:
        yield running


@pytest.fixture
def faults(kube):
    yield kube.faults
    kube.faults.end_all()


def fresh_client(kube):
    """Return a client that asks once; the default one repeats by itself what is answered with 429."""
    settings = client.Configuration()
    settings.retries = False
    config.load_kube_config(str(kube.kubeconfig), client_configuration=settings)
    return client.CoreV1Api(client.ApiClient(settings))


@pytest.fixture
def api(kube, faults):
    api = fresh_client(kube)
    yield api
    faults.end_all()
    api = fresh_client(kube)
    for pod in api.list_namespaced_pod("default").items:
        api.delete_namespaced_pod(pod.metadata.name, "default", grace_period_seconds=0)
    eventually(lambda: not api.list_namespaced_pod("default").items)
    api.api_client.close()


def error_of(call, *args, **kwargs):
    with pytest.raises(ApiException) as raised:
        call(*args, **kwargs)
    return raised.value.status, json.loads(raised.value.body)


def events_of(api, name):
    found = api.list_namespaced_event("default", field_selector=f"involvedObject.name={name}").items
    return {event.reason: event for event in found}


def conditions_of(pod):
    return {condition.type: condition for condition in pod.status.conditions}


def follow(api, name, **query):
    return api.read_namespaced_pod_log(name, "default", follow=True, _preload_content=False, **query)


# Requests


def test_requests_are_answered_with_an_error_as_often_as_was_said(api, faults):
    fault = faults.answer(500, times=2)
    for _ in range(2):
        status, body = error_of(api.list_namespaced_pod, "default")
        assert (status, body["reason"], body["kind"]) == (500, "InternalError", "Status")
    assert api.list_namespaced_pod("default").items == []
    assert fault.hits == 2


def test_only_the_paths_and_methods_that_were_meant_fail(api, faults):
    with faults.answer(503, path="*/pods", methods=["POST"]) as fault:
        assert error_of(create, api, manifest("refused", "true"))[0] == 503
        api.list_namespaced_pod("default")
        api.list_namespaced_event("default")
    assert fault.hits == 1
    create(api, manifest("refused", "true"))


def test_too_many_requests_come_with_the_time_to_wait(api, faults):
    faults.answer(429, times=1)
    with pytest.raises(ApiException) as raised:
        api.list_namespaced_pod("default")
    assert raised.value.headers["Retry-After"] == "1"


def test_a_code_that_is_no_error_is_refused(faults):
    with pytest.raises(ArgumentError, match="code=200"):
        faults.answer(200)


def test_an_api_that_hangs_answers_what_has_waited_when_that_ends(api, faults):
    fault = faults.hang()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(api.list_namespaced_pod("default")), daemon=True)
    thread.start()
    eventually(lambda: fault.hits)
    assert not answers
    fault.end()
    thread.join(240)
    assert answers


def test_a_client_may_give_up_on_an_api_that_hangs(api, faults):
    faults.hang(60, path="*/pods")
    with pytest.raises(urllib3.exceptions.HTTPError):
        api.list_namespaced_pod("default", _request_timeout=0.2)


def test_latency_delays_each_answer(api, faults):
    faults.delay(0.3)
    before = time.monotonic()
    api.list_namespaced_pod("default")
    assert time.monotonic() - before >= 0.3


def test_credentials_are_refused_for_a_while(api, faults):
    fault = faults.refuse_credentials(2)
    assert [error_of(api.list_namespaced_pod, "default")[0] for _ in range(2)] == [401, 401]
    api.list_namespaced_pod("default")
    assert fault.hits == 2


def test_expired_credentials_end_the_stream_and_a_new_token_is_accepted(api, kube, faults):
    create(api, manifest("follows", f"echo one; {FOREVER}"))
    running(api, "follows")
    old = kube.token
    stream = follow(api, "follows").stream(amt=None)
    assert next(stream) == b"one\n"
    faults.expire_credentials()
    with pytest.raises(urllib3.exceptions.ProtocolError):
        next(stream)
    status, body = error_of(api.read_namespaced_pod, "follows", "default")
    assert (status, body["reason"]) == (401, "Unauthorized")
    assert kube.token != old
    assert fresh_client(kube).read_namespaced_pod("follows", "default").metadata.name == "follows"


def test_expired_credentials_may_leave_a_stream_alone_as_an_api_server_does(api, places, faults):
    script = "import os, time\nprint('one', flush=True)\nwhile not os.path.exists('/data/gate'): time.sleep(0.01)\nprint('two')"
    gate = places["data"] / "gate"
    gate.unlink(missing_ok=True)
    base = {"name": "base", "image": "registry.example/python:1", "args": ["-u", "-c", script]}
    create(api, manifest("goes-on", base))
    running(api, "goes-on")
    stream = follow(api, "goes-on").stream(amt=None)
    assert next(stream) == b"one\n"
    faults.expire_credentials(cut_streams=False)
    gate.touch()
    assert b"".join(stream) == b"two\n"


# Streams


def cuts_of(api, faults, seed):
    """Follow a log until it has been read in one piece; give the length of what was read each time."""
    fault = faults.cut_log_streams(5, within=3_000, seed=seed)
    lengths = []
    while True:
        data = bytearray()
        try:
            for piece in follow(api, "long").stream(amt=None):
                data += piece
        except urllib3.exceptions.ProtocolError:
            lengths.append(len(data))
        else:
            assert fault.hits == 5
            return lengths, bytes(data)


def test_log_streams_are_cut_at_random_places_that_a_seed_repeats(api, faults):
    create(api, manifest("long", "seq 1 5000"))
    finished(api, "long")
    whole = "".join(f"{number}\n" for number in range(1, 5001)).encode()
    first, data = cuts_of(api, faults, seed=1)
    assert data == whole
    assert len(first) == 5
    assert max(first) <= 3_000
    assert cuts_of(api, faults, seed=1) == (first, whole)
    assert cuts_of(api, faults, seed=2)[0] != first


def test_what_does_not_follow_a_log_is_not_cut(api, faults):
    create(api, manifest("whole", "seq 1 5000"))
    finished(api, "whole")
    fault = faults.cut_log_streams(5, within=10)
    assert log(api, "whole").endswith(b"5000\n")
    assert fault.hits == 0


# Pods


def test_an_evicted_pod_has_failed_and_says_why(api, kube, faults):
    create(api, manifest("evicted", f"trap '' TERM; {FOREVER}"))
    running(api, "evicted")
    faults.evict(kube.pods()[-1])
    pod = finished(api, "evicted")
    assert (pod.status.phase, pod.status.reason) == ("Failed", "Evicted")
    assert pod.status.message.startswith("The node was low on resource: memory. Threshold quantity: ")
    assert "Container base was using" in pod.status.message
    assert pod.status.container_statuses[0].state.terminated.exit_code == 137
    target = conditions_of(pod)["DisruptionTarget"]
    assert (target.status, target.reason) == ("True", "TerminationByKubelet")
    assert events_of(api, "evicted")["Evicted"].type == "Warning"


def test_the_phase_of_an_evicted_pod_changes_when_its_containers_have_ended(api, faults):
    create(api, manifest("ending", f"trap '' TERM; {FOREVER}"))
    running(api, "ending")
    seen = []

    def watch():
        pod = api.read_namespaced_pod("ending", "default")
        state = pod.status.container_statuses[0].state
        seen.append((pod.status.phase, pod.status.reason, state.terminated is not None))
        return state.terminated

    watch()
    thread = threading.Thread(target=faults.evict, args=["default/ending"])
    thread.start()
    eventually(watch)
    thread.join()
    assert set(seen) == {("Running", None, False), ("Failed", "Evicted", True)}


def test_a_container_out_of_memory_says_so(api, faults):
    create(api, manifest("greedy", FOREVER))
    running(api, "greedy")
    faults.kill_for_memory("greedy")
    state = finished(api, "greedy").status.container_statuses[0].state.terminated
    assert (state.exit_code, state.reason) == (137, "OOMKilled")


def test_a_killed_container_has_no_reason_of_its_own(api, faults):
    create(api, manifest("killed", FOREVER))
    running(api, "killed")
    faults.kill("killed")
    pod = finished(api, "killed")
    state = pod.status.container_statuses[0].state.terminated
    assert (pod.status.phase, state.exit_code, state.reason) == ("Failed", 137, "Error")


def test_nothing_is_heard_of_a_pod_whose_node_is_lost(api, faults):
    create(api, manifest("lost", f"echo one; {FOREVER}"))
    running(api, "lost")
    stream = follow(api, "lost").stream(amt=None)
    assert next(stream) == b"one\n"
    faults.lose_node("lost")
    with pytest.raises(urllib3.exceptions.ProtocolError):
        next(stream)
    status, body = error_of(log, api, "lost")
    assert status == 500
    assert body["message"].endswith("connect: no route to host")
    assert "reason" not in body
    pod = api.read_namespaced_pod("lost", "default")
    assert pod.status.phase == "Running"
    assert pod.status.container_statuses[0].state.running
    assert conditions_of(pod)["Ready"].status == "False"
    assert events_of(api, "lost")["NodeNotReady"].message == "Node is not ready"


def test_a_pod_of_a_lost_node_stays_until_it_is_collected(api, kube, faults):
    create(api, manifest("stays", FOREVER, terminationGracePeriodSeconds=1))
    running(api, "stays")
    faults.lose_node("stays")
    api.delete_namespaced_pod("stays", "default")
    pod = api.read_namespaced_pod("stays", "default")
    assert pod.metadata.deletion_timestamp
    assert pod.status.phase == "Running"
    faults.collect_lost_pod("stays")
    fact = eventually(lambda: next((f for f in kube.pods() if f.name == "stays" and f.deleted_at), None))
    assert fact.phase == "Failed"


def test_a_pod_of_a_lost_node_goes_by_force(api, kube, faults):
    create(api, manifest("forced", FOREVER))
    running(api, "forced")
    faults.lose_node("forced", running=True)
    api.delete_namespaced_pod("forced", "default", grace_period_seconds=0)
    eventually(lambda: any(f.name == "forced" and f.deleted_at for f in kube.pods()))


def test_a_pod_that_is_not_there_is_refused_with_those_that_are(api, faults):
    create(api, manifest("there", FOREVER))
    with pytest.raises(ArgumentError, match="did you mean default/there"):
        faults.kill("ther")


# Logs


def test_what_was_rotated_away_cannot_be_read_but_a_follower_loses_nothing(api, places, faults):
    gate = places["data"] / "rotated"
    gate.unlink(missing_ok=True)
    script = "import os, time\nprint('old')\nwhile not os.path.exists('/data/rotated'): time.sleep(0.01)\nprint('new')"
    base = {"name": "base", "image": "registry.example/python:1", "args": ["-u", "-c", script]}
    create(api, manifest("rotates", base))
    running(api, "rotates")
    stream = follow(api, "rotates").stream(amt=None)
    assert next(stream) == b"old\n"
    faults.rotate_log("rotates")
    assert log(api, "rotates") == b""
    gate.touch()
    finished(api, "rotates")
    assert b"".join(stream) == b"new\n"
    assert log(api, "rotates") == b"new\n"
    assert log(api, "rotates", tail_lines=10) == b"new\n"


def test_the_node_stamps_lines_by_its_own_clock_and_counts_back_from_it(api, faults):
    faults.set_node_clock(-3600)
    create(api, manifest("behind", "echo late"))
    pod = finished(api, "behind")
    hour_ago = time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() - 3600)).encode()
    a_while_before = time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() - 4200)).encode()
    assert log(api, "behind", timestamps=True)[:13] in (hour_ago, a_while_before)
    assert log(api, "behind", since_seconds=1800) == b"late\n"
    assert sinced(api, "behind", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))) == b""
    ended = pod.status.container_statuses[0].state.terminated.finished_at
    assert (pod.metadata.creation_timestamp - ended).total_seconds() > 3000


def sinced(api, name, moment):
    """Ask with sinceTime, which the generated client does not offer."""
    return api.api_client.call_api(
        f"/api/v1/namespaces/default/pods/{name}/log",
        "GET",
        query_params=[("sinceTime", moment)],
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
    ).data


# The cluster


def test_a_quota_refuses_what_is_too_much_until_a_pod_has_ended(api, faults):
    faults.limit_pods("default", 1)
    create(api, manifest("first", FOREVER))
    status, body = error_of(create, api, manifest("second", "true"))
    assert (status, body["reason"]) == (403, "Forbidden")
    assert body["message"] == (
        'pods "second" is forbidden: exceeded quota: compute-quota, requested: pods=1, used: pods=1, limited: pods=1'
    )
    running(api, "first")
    faults.kill("first")
    finished(api, "first")
    create(api, manifest("second", "true"))
    faults.limit_pods("default", 0)
    assert error_of(create, api, manifest("third", "true"))[0] == 403
    faults.limit_pods("default", None)
    create(api, manifest("third", "true"))


def test_a_pod_without_room_stays_pending_and_says_why(api, kube, faults):
    faults.no_room()
    create(api, manifest("crowded", "true"))
    event = eventually(lambda: events_of(api, "crowded").get("FailedScheduling"))
    pod = api.read_namespaced_pod("crowded", "default")
    scheduled = conditions_of(pod)["PodScheduled"]
    assert (pod.status.phase, pod.spec.node_name) == ("Pending", None)
    assert (scheduled.status, scheduled.reason) == ("False", "Unschedulable")
    assert scheduled.message == event.message
    assert event.message.startswith("0/1 nodes are available: 1 Insufficient memory.")
    assert (event.type, event.source.component) == ("Warning", "default-scheduler")
    faults.no_room(None)
    assert finished(api, "crowded").status.phase == "Succeeded"


def test_a_pod_without_room_can_be_deleted(api, kube, faults):
    faults.no_room()
    create(api, manifest("unwanted", "true"))
    eventually(lambda: "FailedScheduling" in events_of(api, "unwanted"))
    api.delete_namespaced_pod("unwanted", "default")
    eventually(lambda: any(f.name == "unwanted" and f.deleted_at for f in kube.pods()))


def test_a_server_with_a_lost_node_stops(images):
    with LocalKube(images, timings=TIMINGS) as kube:
        api = fresh_client(kube)
        create(api, manifest("left", FOREVER))
        running(api, "left")
        kube.faults.lose_node("left", running=True)
        api.api_client.close()


def test_faults_are_there_only_while_the_server_runs(images):
    with pytest.raises(RuntimeError, match="not running"):
        _ = LocalKube(images).faults


# From outside


def press(kube, switch, _file=None, **arguments):
    settings = client.Configuration()
    config.load_kube_config(str(_file or kube.kubeconfig), client_configuration=settings)
    response = client.ApiClient(settings).call_api(
        f"/localkube/faults/{switch}",
        "POST",
        body=arguments,
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
    )
    return json.loads(response.data)


def test_the_switches_can_be_pressed_over_http_also_while_the_api_hangs(api, kube):
    create(api, manifest("outside", FOREVER))
    running(api, "outside")
    press(kube, "hang", path="/api/*")
    press(kube, "kill", pod="default/outside")
    assert press(kube, "end_all")["status"] == "Success"
    assert finished(api, "outside").status.container_statuses[0].state.terminated.exit_code == 137


@pytest.mark.parametrize(
    ("switch", "arguments", "status", "text"),
    [
        ("explode", {}, 404, "could not find"),
        ("_admit", {}, 404, "could not find"),
        ("kill", {}, 400, "missing a required argument: 'pod'"),
        ("kill", {"pod": "none"}, 400, "expected a pod that is there"),
        ("answer", {"code": 200}, 400, "code=200"),
    ],
)
def test_a_wrong_switch_or_argument_is_named(kube, switch, arguments, status, text):
    found, body = error_of(press, kube, switch, **arguments)
    assert found == status
    assert text in body["message"]


def test_only_the_user_who_may_do_everything_may_press(kube):
    file = kube.kubeconfig_for([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])
    status, body = error_of(press, kube, "end_all", _file=file)
    assert status == 403
    assert body["message"].endswith('cannot post path "/localkube/faults/end_all"')
