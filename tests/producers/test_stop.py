"""What dbt gets to see of the end of its pod: an interrupt, on which it cancels its queries."""

import shutil
import signal
import sys
import threading

import pytest
from harness import until
from kubernetes import client, config
from kubernetes.client import models as k8s

from dbt_watch.local.localkube import Image, LocalKube, Mount
from dbt_watch.producers.pods.log_following import Position
from dbt_watch.producers.pods.log_reader import PodLogReader
from dbt_watch.producers.pods.pre_stop import interrupt_before_stop

# Like dbt: an interrupt is what it listens to, and as the first process it does not even notice a SIGTERM.
SCRIPT = """
import time
print("up")
try:
    time.sleep(600)
except KeyboardInterrupt:
    print("queries cancelled")
    raise SystemExit(1)
"""


# What images have for /bin/sh, as far as this machine has it.
SHELLS = {name: path for name in ("dash", "bash", "busybox") if (path := shutil.which(name))}


@pytest.fixture
def kube(tmp_path):
    no_shell = tmp_path / "sh"
    no_shell.touch()
    shell_less = {"venv": sys.prefix, "mounts": {"/bin/sh": Mount(no_shell, shared=True)}}
    images = {
        "python:3": Image(venv=sys.prefix),
        "distroless:1": Image(**shell_less),
        "distroless:2": Image(**shell_less, stop_signal=signal.SIGINT),
    }
    for name, path in SHELLS.items():
        images[name] = Image(venv=sys.prefix, mounts={"/bin/sh": Mount(path, shared=True)})
    with LocalKube(images) as kube:
        if not kube.isolated:
            pytest.skip("hooks run in namespaces only")
        yield kube


def container(image="python:3", script=SCRIPT, **kwargs):
    return k8s.V1Container(name="base", image=image, command=["python", "-u", "-c", script], **kwargs)


def end_of_deleted_pod(kube, image, grace, *, script=SCRIPT, beside=(), **spec):
    """Delete a pod while its container runs, and give the lines of its log and its exit code."""
    api = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
    base = container(image, script)
    interrupt_before_stop(base)
    body = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="dbt"),
        spec=k8s.V1PodSpec(
            restart_policy="Never",
            termination_grace_period_seconds=grace,
            containers=[*beside, base],
            **spec,
        ),
    )
    pod = api.create_namespaced_pod("default", body)
    until(
        lambda: api.read_namespaced_pod("dbt", "default").status.phase != "Pending",
        "the pod does not start",
        pause=0.05,
    )
    lines = []
    reader = PodLogReader(
        api,
        lambda pod: api.read_namespaced_pod(pod.metadata.name, "default"),
        pod,
        "base",
        position=Position(),
        on_lines=lambda read, is_new: lines.extend(read if is_new else ()),
        on_tick=lambda: None,
    )
    thread = threading.Thread(target=reader.follow, daemon=True)
    thread.start()
    until(lambda: lines == [b"up"], lambda: f"it says {lines}", pause=0.02)
    api.delete_namespaced_pod("dbt", "default")
    thread.join(240)
    assert not thread.is_alive()
    # With all of its containers, of which this is but one.
    until(lambda: all(fact.deleted_at for fact in kube.pods()), "the pod is left", pause=0.02)
    (fact,) = kube.pods()
    return lines, fact.exit_codes["base"]


def test_a_pod_that_is_deleted_interrupts_dbt_first(kube):
    assert end_of_deleted_pod(kube, "python:3", 60) == ([b"up", b"queries cancelled"], 1)


# A mesh's proxy, which started before dbt, and would tell if the interrupt came to it.
PROXY = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(42))
time.sleep(600)
"""


@pytest.mark.parametrize("image", SHELLS)
def test_dbt_is_interrupted_and_nobody_else_where_process_1_is_not_dbt(kube, image):
    proxy = k8s.V1Container(name="proxy", image="python:3", command=["python", "-c", PROXY])
    ended = end_of_deleted_pod(kube, image, 60, beside=[proxy], share_process_namespace=True)
    assert ended == ([b"up", b"queries cancelled"], 1)
    (fact,) = kube.pods()
    assert fact.exit_codes["proxy"] == 128 + signal.SIGTERM


def test_what_dbt_has_started_is_not_taken_for_it(kube):
    # So many that some of their numbers come first in the order of an alphabet.
    script = f"import subprocess\nfor _ in range(12): subprocess.Popen(['sleep', '600'])\n{SCRIPT}"
    ended = end_of_deleted_pod(kube, "python:3", 60, script=script, share_process_namespace=True)
    assert ended == ([b"up", b"queries cancelled"], 1)


def test_without_a_shell_dbt_does_not_notice_and_is_killed_in_the_end(kube):
    assert end_of_deleted_pod(kube, "distroless:1", 1) == ([b"up"], 137)


def test_without_a_shell_the_stop_signal_of_the_image_interrupts_dbt(kube):
    assert end_of_deleted_pod(kube, "distroless:2", 60) == ([b"up", b"queries cancelled"], 1)
