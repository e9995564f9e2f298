"""How pods end: grace periods, hooks, force, and the death of localkube itself."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException

from dbt_watch.local.localkube import LocalKube, cluster

from .conftest import container, create, eventually, finished, manifest, running, says

LOOP = "while :; do sleep 0.05; done"


def gone(api, name):
    try:
        api.read_namespaced_pod(name, "default")
    except ApiException as error:
        return error.status == 404
    return False


def exit_code(kube, name):
    fact = eventually(lambda: next((f for f in kube.pods() if f.name == name and f.deleted_at), None))
    return fact.exit_codes.get("base")


def test_sigterm_comes_first_and_the_pod_may_end_in_order(kube, api):
    create(api, manifest("orderly", f"trap 'exit 7' TERM; echo trapped; {LOOP}"))
    says(api, "orderly", b"trapped")
    answer = api.delete_namespaced_pod("orderly", "default")
    assert answer.metadata.deletion_timestamp
    assert answer.metadata.deletion_grace_period_seconds == 30
    assert exit_code(kube, "orderly") == 7
    reasons = [
        event.reason
        for event in api.list_namespaced_event("default", field_selector="involvedObject.name=orderly").items
    ]
    assert reasons[-1] == "Killing"


def test_pid_1_without_a_handler_ignores_sigterm_until_the_grace_period_is_over(kube, api):
    create(api, manifest("stubborn", "sleep 600", terminationGracePeriodSeconds=1))
    running(api, "stubborn")
    began = time.monotonic()
    api.delete_namespaced_pod("stubborn", "default")
    assert exit_code(kube, "stubborn") == 137
    assert time.monotonic() - began > 0.9


def test_a_pod_without_grace_goes_at_once(kube, api):
    create(api, manifest("forced", f"trap '' TERM; {LOOP}"))
    running(api, "forced")
    api.delete_namespaced_pod("forced", "default", grace_period_seconds=0)
    assert exit_code(kube, "forced") == 137


def test_a_second_delete_can_only_shorten_the_time(kube, api):
    create(api, manifest("shorter", f"trap '' TERM; {LOOP}"))
    running(api, "shorter")
    api.delete_namespaced_pod("shorter", "default", grace_period_seconds=300)
    api.delete_namespaced_pod("shorter", "default", grace_period_seconds=0)
    assert exit_code(kube, "shorter") == 137


def test_the_hook_runs_in_the_container_before_sigterm(kube, api, places):
    target = places["data"] / "hook"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "cat /proc/1/comm > /data/hook; kill -INT 1"]}}}
    script = (
        "import time, signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(9));"
        " open('/data/listens', 'w').close(); time.sleep(600)"
    )
    create(
        api,
        manifest(
            "hooked",
            {"name": "base", "image": "registry.example/python:1", "args": ["-c", script], "lifecycle": hook},
        ),
    )
    eventually((places["data"] / "listens").exists)
    api.delete_namespaced_pod("hooked", "default")
    assert exit_code(kube, "hooked") == 9
    assert target.read_text().startswith("python")


def test_a_hook_that_does_not_end_uses_up_the_grace_period(kube, api):
    hook = {"preStop": {"exec": {"command": ["sleep", "600"]}}}
    create(api, manifest("hanging", container(f"trap 'exit 5' TERM; echo trapped; {LOOP}", lifecycle=hook)))
    says(api, "hanging", b"trapped")
    api.delete_namespaced_pod("hanging", "default", grace_period_seconds=1)
    assert exit_code(kube, "hanging") == 5


def test_what_a_container_left_running_ends_with_it(api, places):
    script = (
        "import os, subprocess, time; subprocess.Popen(['sh', '-c', 'while :; do date +%N > /data/alive; sleep 0.02; done'],"
        " start_new_session=True)\nwhile not os.path.exists('/data/alive'): time.sleep(0.01)"
    )
    create(
        api,
        manifest("leaves", {"name": "base", "image": "registry.example/python:1", "args": ["-c", script]}),
    )
    eventually(lambda: api.read_namespaced_pod("leaves", "default").status.phase == "Succeeded")
    before = (places["data"] / "alive").read_text()
    time.sleep(0.1)
    assert (places["data"] / "alive").read_text() == before


def test_a_pod_that_never_started_goes_too(api):
    create(api, manifest("pending", {"name": "base", "image": "registry.example/none:1"}))
    api.delete_namespaced_pod("pending", "default")
    eventually(lambda: gone(api, "pending"))


SERVE = """
import json, ssl, sys, time, urllib.request
from dbt_watch.local.localkube import Image, LocalKube, Mount
data, isolation = sys.argv[1:]
image = Image(venv=sys.prefix, mounts={"/data": Mount(data, shared=True)})
with LocalKube({"i": image}, isolation=isolation) as kube:
    script = "import time, os\\nwhile True:\\n open('/data/alive', 'w').write(str(time.time_ns()))\\n time.sleep(0.01)"
    spec = {"restartPolicy": "Never", "containers": [{"name": "b", "image": "i", "command": ["python", "-c", script]}]}
    request = urllib.request.Request(
        kube.url + "/api/v1/namespaces/default/pods",
        json.dumps({"metadata": {"name": "p"}, "spec": spec}).encode(),
        {"Authorization": "Bearer " + kube.token},
    )
    urllib.request.urlopen(request, context=ssl._create_unverified_context()).close()
    print(kube.kubeconfig.parent, flush=True)
    time.sleep(600)
"""


@pytest.mark.usefixtures("kube")
@pytest.mark.parametrize("isolation", ["namespaces", "none"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_pods_die_with_localkube_however_it_dies(tmp_path, isolation, number):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path), isolation],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    alive = tmp_path / "alive"
    directory = Path(server.stdout.readline().decode().strip())
    try:
        eventually(alive.exists)
        server.send_signal(number)
        server.wait(240)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()

    def still():
        before = alive.read_text()
        time.sleep(0.1)
        return alive.read_text() == before

    eventually(still)
    if number == signal.SIGINT:
        assert not directory.exists()


def test_a_stop_leaves_no_directory(images):
    with LocalKube(images) as kube:
        directory = kube.kubeconfig.parent
        assert directory.exists()
    assert not directory.exists()


def test_what_a_killed_server_left_is_removed_by_the_next_one(images, tmp_path, monkeypatch):
    # Where no other server is that might be the next one.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = (
        "import os; from dbt_watch.local.localkube import LocalKube; kube = LocalKube(isolation='none'); kube.start();"
        " print(kube.kubeconfig.parent, flush=True); os.kill(os.getpid(), 9)"
    )
    output = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False).stdout
    left = Path(output.decode().strip())
    assert left.exists()
    with LocalKube(images, isolation="none") as other:
        assert not left.exists()
        with LocalKube(images, isolation="none"):
            assert other.kubeconfig.exists()


def test_a_server_that_begins_is_not_taken_for_one_that_was_killed(tmp_path, monkeypatch):
    directory, flock = tmp_path / "localkube-new", fcntl.flock
    directory.mkdir()

    def flock_while_another_looks(*arguments):
        monkeypatch.undo()
        cluster._remove_leftovers(tmp_path)
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", flock_while_another_looks)
    lock = cluster._lock(directory)
    cluster._remove_leftovers(tmp_path)
    assert directory.exists()
    os.close(lock)
    cluster._remove_leftovers(tmp_path)
    assert not directory.exists()


def test_a_container_heeds_signals_that_its_starter_ignores(api):
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        create(api, manifest("heeding", "grep SigIgn /proc/1/status"))
        finished(api, "heeding")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    log = api.read_namespaced_pod_log("heeding", "default", _preload_content=False).data.decode()
    assert int(log.split()[1], 16) == 0
