"""Pods whose containers share a PID namespace: who sees whom, and what ends with what."""

from __future__ import annotations

from .conftest import container, create, eventually, finished, log, manifest, running

LOOP = "while :; do sleep 0.05; done"
NAMES = "for entry in /proc/[0-9]*; do tr '\\0' ' ' <$entry/cmdline; echo; done"


# A volume by which containers wait for one another.
VOLUME = {"name": "v", "emptyDir": {}}
MOUNTED = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}


def shared(name, *containers, **spec):
    return manifest(name, *containers, shareProcessNamespace=True, volumes=[VOLUME], **spec)


def until(condition):
    return f"until {condition}; do sleep 0.05; done"


def test_process_1_is_nobodys_and_the_containers_see_one_another(api):
    other = container(f"{until('[ -e /v/seen ]')}; : other", "other", **MOUNTED)
    # The brackets keep the search from finding itself.
    looks = until("grep -q '[:] other' /proc/[0-9]*/cmdline")
    create(api, shared("seen", other, container(f"echo I am $$; {looks}; {NAMES}; touch /v/seen", **MOUNTED)))
    finished(api, "seen")
    text = api.read_namespaced_pod_log("seen", "default", container="base")
    assert "I am 1\n" not in text
    assert "sh -c until [ -e /v/seen ]; do sleep 0.05; done; : other" in text


def test_files_stay_each_containers_own(api):
    other = container("touch /only-here /v/made", "other", **MOUNTED)
    create(api, shared("files", other, container(f"{until('[ -e /v/made ]')}; ls /", **MOUNTED)))
    finished(api, "files")
    assert "only-here" not in api.read_namespaced_pod_log("files", "default", container="base")


def test_an_init_container_shares_it_too(api):
    create(api, shared("begun", "true", initContainers=[container("echo I am $$", "before")]))
    finished(api, "begun")
    assert api.read_namespaced_pod_log("begun", "default", container="before") != "I am 1\n"


def test_what_a_container_leaves_behind_ends_with_it(api, places):
    gate = places["data"] / "ended"
    gate.unlink(missing_ok=True)
    leaves = container("(while :; do echo left; sleep 0.05; done) & sleep 0.3", "leaves")
    looks = f"{until('[ -e /data/ended ]')}; echo looked; {NAMES}"
    base = {"name": "base", "image": "registry.example/python:1", "command": ["sh", "-c", looks]}
    create(api, shared("left", leaves, base))

    def has_ended():
        states = api.read_namespaced_pod("left", "default").status.container_statuses or []
        return any(state.name == "leaves" and state.state.terminated for state in states)

    eventually(has_ended)
    gate.touch()
    finished(api, "left")
    text = api.read_namespaced_pod_log("left", "default", container="base")
    assert "looked" in text
    assert "echo left" not in text


def test_sigterm_ends_a_container_that_does_not_handle_it_since_it_is_not_process_1(kube, api):
    create(api, shared("mortal", "sleep 600", terminationGracePeriodSeconds=20))
    running(api, "mortal")
    api.delete_namespaced_pod("mortal", "default")
    fact = eventually(lambda: next((f for f in kube.pods() if f.name == "mortal" and f.deleted_at), None))
    assert fact.exit_codes == {"base": 143}


def test_the_end_of_process_1_is_the_end_of_all(api):
    # The brackets keep the search from finding itself.
    waits = until("grep -q '[o]ther loop' /proc/[0-9]*/cmdline")
    create(
        api, shared("headless", container(f"{LOOP} # other loop", "other"), f"{waits}; kill -INT 1; sleep 20")
    )
    pod = finished(api, "headless")
    assert {state.state.terminated.exit_code for state in pod.status.container_statuses} == {137}


def test_without_namespaces_nothing_of_it_is_seen(bare_api):
    base = {"name": "base", "image": "registry.example/python:1", "args": ["-c", "print('ran')"]}
    create(bare_api, shared("bare", base))
    finished(bare_api, "bare")
    assert log(bare_api, "bare") == b"ran\n"
