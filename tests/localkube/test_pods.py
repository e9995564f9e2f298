"""What pods do: phases, conditions, init containers, volumes, environment, images, restarts, deadlines."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes import watch

from .conftest import container, create, eventually, finished, log, manifest, run, running


def status_of(pod, name="base"):
    return next(each for each in pod.status.container_statuses if each.name == name)


def condition(pod, kind):
    return next(each for each in pod.status.conditions if each.type == kind)


@pytest.mark.parametrize(
    ("script", "phase", "code", "reason"),
    [("exit 0", "Succeeded", 0, "Completed"), ("exit 3", "Failed", 3, "Error")],
)
def test_the_exit_code_decides_the_phase(api, script, phase, code, reason):
    create(api, manifest("ends", script))
    pod = finished(api, "ends")
    ended = status_of(pod).state.terminated
    assert (pod.status.phase, ended.exit_code, ended.reason) == (phase, code, reason)
    assert ended.started_at <= ended.finished_at
    assert ended.container_id
    assert status_of(pod).restart_count == 0


def test_a_running_pod_is_ready(api):
    create(api, manifest("ready", "sleep 600"))
    pod = running(api, "ready")
    assert pod.status.phase == "Running"
    assert condition(pod, "Ready").status == "True"
    assert condition(pod, "PodScheduled").status == "True"
    assert status_of(pod).ready
    assert api.read_namespaced_pod_status("ready", "default").status.phase == "Running"


def test_a_process_that_kills_itself_ends_with_128_and_the_signal(api):
    create(api, manifest("killed", "sh -c 'kill -9 $$$$'; exit $?"))
    assert status_of(finished(api, "killed")).state.terminated.exit_code == 137


def test_a_program_that_is_not_there_is_a_start_error(api):
    create(api, manifest("absent", {"name": "base", "image": "tools", "command": ["no-such-program"]}))
    pod = finished(api, "absent")
    ended = status_of(pod).state.terminated
    assert (ended.reason, ended.exit_code) == ("StartError", 128)
    assert 'exec: "no-such-program": executable file not found in $PATH' in ended.message


def test_init_containers_run_one_after_the_other_before_the_rest(api):
    shared = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    create(
        api,
        manifest(
            "ordered",
            container("cat /v/order", **shared),
            initContainers=[
                container("sleep 0.2; echo first >> /v/order", "one", **shared),
                container("echo second >> /v/order", "two", **shared),
            ],
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
    )
    pod = finished(api, "ordered")
    assert log(api, "ordered", container="base") == b"first\nsecond\n"
    assert [each.state.terminated.exit_code for each in pod.status.init_container_statuses] == [0, 0]


def test_a_failing_init_container_fails_the_pod(api):
    create(api, manifest("uninitialized", "true", initContainers=[container("exit 4", "setup")]))
    pod = finished(api, "uninitialized")
    assert pod.status.phase == "Failed"
    assert pod.status.init_container_statuses[0].state.terminated.exit_code == 4
    assert status_of(pod).state.waiting.reason == "PodInitializing"
    assert condition(pod, "Initialized").status == "False"


def test_an_init_container_that_keeps_running_starts_before_the_rest_and_is_stopped_after_it(api):
    shared = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    stops = (
        "trap 'cp /v/main /v/seen; cat /v/seen; exit 3' TERM; echo up > /v/side; while :; do sleep 0.05; done"
    )
    create(
        api,
        manifest(
            "accompanied",
            container("cat /v/next; echo done > /v/main", **shared),
            initContainers=[
                container(stops, "side", restartPolicy="Always", **shared),
                container(
                    "while [ ! -e /v/side ]; do sleep 0.02; done; cp /v/side /v/next", "next", **shared
                ),
            ],
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
    )
    pod = finished(api, "accompanied")
    assert pod.status.phase == "Succeeded"
    assert log(api, "accompanied", container="base") == b"up\n"
    assert log(api, "accompanied", container="side") == b"done\n"
    ends = {each.name: each.state.terminated.exit_code for each in pod.status.init_container_statuses}
    assert ends == {"side": 3, "next": 0}


def test_a_pod_runs_as_long_as_a_container_beside_the_main_one(api):
    create(
        api,
        manifest(
            "beside", container("exit 0"), container("while [ ! -e /tmp/go ]; do sleep 0.05; done", "other")
        ),
    )

    def is_half_done():
        pod = api.read_namespaced_pod("beside", "default")
        states = pod.status.container_statuses or []
        return pod if [bool(each.state.terminated) for each in states] == [True, False] else None

    eventually(lambda: (pod := is_half_done()) and status_of(pod, "other").state.running)
    assert is_half_done().status.phase == "Running"


def test_containers_run_side_by_side_and_share_volumes(api):
    shared = {"volumeMounts": [{"name": "v", "mountPath": "/airflow/xcom"}]}
    create(
        api,
        manifest(
            "pair",
            container("while [ ! -e /airflow/xcom/go ]; do sleep 0.02; done; echo gone", **shared),
            container("touch /airflow/xcom/go", "other", **shared),
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
    )
    assert finished(api, "pair").status.phase == "Succeeded"
    assert log(api, "pair", container="base") == b"gone\n"


def test_one_failed_container_of_two_fails_the_pod(api):
    create(api, manifest("half", container("exit 0"), container("exit 1", "other")))
    assert finished(api, "half").status.phase == "Failed"


def test_the_environment_comes_from_all_its_sources(api):
    secret = api.create_namespaced_secret(
        "default", {"metadata": {"generateName": "s-"}, "stringData": {"password": "hunter2"}}
    ).metadata.name
    table = api.create_namespaced_config_map(
        "default", {"metadata": {"generateName": "c-"}, "data": {"COLOR": "red"}}
    ).metadata.name
    env = [
        {"name": "FIRST", "value": "1"},
        {"name": "SECOND", "value": "$(FIRST)-$$(FIRST)-$(UNKNOWN)"},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": secret, "key": "password"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['dag_id']"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    body = manifest(
        "env",
        container(
            'echo "$SECOND|$PASSWORD|$NAME|$LABEL|$NODE|$P_COLOR|$1|$(hostname)"',
            env=env,
            envFrom=[{"prefix": "P_", "configMapRef": {"name": table}}],
        ),
    )
    body["spec"]["containers"][0]["args"] = ["sh", "$(FIRST)/$(UNKNOWN)/$$(FIRST)"]
    body["metadata"]["labels"] = {"dag_id": "shop"}
    create(api, body)
    finished(api, "env")
    expected = "1-$(FIRST)-$(UNKNOWN)|hunter2|env|shop|localkube|red|1/$(UNKNOWN)/$(FIRST)|env\n"
    assert log(api, "env").decode() == expected


def test_the_environment_of_the_host_stays_outside(api, monkeypatch):
    monkeypatch.setenv("LOCALKUBE_TEST_SECRET", "x")
    assert "LOCALKUBE_TEST_SECRET" not in run(api, "clean", "env")


def test_a_missing_secret_holds_the_container_until_it_is_there(api):
    env = [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "later", "key": "p"}}}]
    create(api, manifest("config", container("echo $P", env=env)))

    def waiting():
        states = api.read_namespaced_pod("config", "default").status.container_statuses
        return states and states[0].state.waiting and states[0].state.waiting.message

    eventually(lambda: waiting() == 'secret "later" not found')
    pod = api.read_namespaced_pod("config", "default")
    assert status_of(pod).state.waiting.reason == "CreateContainerConfigError"
    api.create_namespaced_secret("default", {"metadata": {"name": "later"}, "stringData": {"p": "now"}})
    finished(api, "config")
    assert log(api, "config") == b"now\n"


def test_secrets_and_config_maps_are_volumes_too(api):
    api.create_namespaced_secret("default", {"metadata": {"name": "keys"}, "stringData": {"k": "secret"}})
    api.create_namespaced_config_map("default", {"metadata": {"name": "conf"}, "data": {"c": "open"}})
    mounts = [
        {"name": "s", "mountPath": "/etc/keys"},
        {"name": "c", "mountPath": "/conf/file", "subPath": "c"},
    ]
    text = run(
        api,
        "mounted",
        container("cat /etc/keys/k /conf/file; touch /etc/keys/new || echo refused", volumeMounts=mounts),
        volumes=[
            {"name": "s", "secret": {"secretName": "keys"}},
            {"name": "c", "configMap": {"name": "conf"}},
        ],
    )
    assert "secretopen" in text
    assert "refused" in text


def test_an_unknown_image_is_waited_for_as_in_a_cluster(api):
    since = api.list_namespaced_pod("default").metadata.resource_version
    create(api, manifest("unknown", {"name": "base", "image": "registry.example/none:1"}))
    watcher, reasons = watch.Watch(), []
    for event in watcher.stream(
        api.list_namespaced_pod, "default", resource_version=since, timeout_seconds=240
    ):
        states = event["object"].status.container_statuses
        reasons += [states[0].state.waiting.reason] if states else []
        if reasons[-1:] == ["ImagePullBackOff"]:
            watcher.stop()
    assert list(dict.fromkeys(reasons)) == ["ContainerCreating", "ErrImagePull", "ImagePullBackOff"]
    assert api.read_namespaced_pod("unknown", "default").status.phase == "Pending"
    events = api.list_namespaced_event("default", field_selector="involvedObject.name=unknown").items
    assert {"Pulling", "Failed", "BackOff"} <= {event.reason for event in events}


def test_an_image_brings_its_programs_mounts_environment_and_command(api, places):
    script = (
        "import os, pathlib; print(os.getcwd(), pathlib.Path('dbt_project.yml').read_text().strip(),"
        " os.environ['FROM_IMAGE']); pathlib.Path('new').touch(); pathlib.Path('/data/kept').touch()"
    )
    body = {"name": "base", "image": "registry.example/python:1", "args": ["-c", script]}
    assert run(api, "image", body) == "/usr/app/shop name: shop yes\n"
    assert not (places["project"] / "new").exists()
    assert (places["data"] / "kept").exists()


def test_what_a_pod_writes_anywhere_else_stays_in_it(api, tmp_path):
    text = run(api, "writes", f"touch {tmp_path}/made /usr/localkube-made /etc/localkube-made && echo done")
    assert text == "done\n"
    assert not (tmp_path / "made").exists()
    assert not [place for place in ("/usr", "/etc") if Path(place, "localkube-made").exists()]


def test_the_working_directory_is_the_one_asked_for(api):
    assert run(api, "cwd", container("pwd", workingDir="/made/for/me")) == "/made/for/me\n"


def test_the_policy_on_failure_starts_it_again_and_keeps_the_previous_log(api):
    shared = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    script = "if [ -e /v/once ]; then echo second; else touch /v/once; echo first; exit 1; fi"
    create(
        api,
        manifest(
            "again",
            container(script, **shared),
            restartPolicy="OnFailure",
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
    )
    pod = finished(api, "again")
    assert pod.status.phase == "Succeeded"
    assert status_of(pod).restart_count == 1
    assert status_of(pod).last_state.terminated.exit_code == 1
    assert log(api, "again") == b"second\n"
    assert log(api, "again", previous=True) == b"first\n"


def test_the_active_deadline_fails_the_pod(api):
    create(
        api,
        manifest("late", "trap 'exit 0' TERM; while :; do sleep 0.05; done", activeDeadlineSeconds=1),
    )
    pod = finished(api, "late")
    assert (pod.status.phase, pod.status.reason) == ("Failed", "DeadlineExceeded")


def test_the_end_of_the_log_becomes_the_message_where_that_is_asked_for(api):
    create(
        api,
        manifest("message", container("echo why; exit 1", terminationMessagePolicy="FallbackToLogsOnError")),
    )
    assert status_of(finished(api, "message")).state.terminated.message == "why\n"


def test_facts_of_pods_outlive_them(kube, api):
    create(api, manifest("fact", "exit 5"))
    uid = finished(api, "fact").metadata.uid
    api.delete_namespaced_pod("fact", "default")
    fact = eventually(lambda: next((f for f in kube.pods() if f.uid == uid and f.deleted_at), None))
    assert (fact.name, fact.phase, fact.image, dict(fact.exit_codes)) == (
        "fact",
        "Failed",
        "tools",
        {"base": 5},
    )
    assert fact.created_at <= fact.finished_at <= fact.deleted_at
