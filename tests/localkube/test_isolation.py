"""Safety: what runs where, what is refused, and that nothing outside of a pod is ever signalled."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube import Image, LocalKube
from dbt_watch.local.localkube.isolation import Command, Exit, IsolationMode, Streams, Surroundings, choose

from .conftest import container, create, eventually, finished, log, manifest, running
from .test_exec import connect

BASE = {"name": "base", "image": "registry.example/python:1"}


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "example.org"])  # noqa: S104 - refused, which is the point
def test_it_listens_on_loopback_only(host):
    with pytest.raises(ArgumentError, match="loopback"):
        LocalKube(host=host)


def test_an_unknown_isolation_is_refused_with_the_known_ones():
    with pytest.raises(ArgumentError, match="namespaces"):
        LocalKube(isolation="chroot")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"venv": "/no/such/place"}, "venv"),
        ({"directory": "/no/such/place"}, "directory"),
        ({"mounts": {"relative": "/"}}, "mounts"),
        ({"mounts": {"/a": "/no/such/place"}}, "mounts"),
        ({"cmd": "dbt build"}, "cmd"),
    ],
)
def test_a_wrong_image_is_refused_by_argument(arguments, named):
    with pytest.raises(ArgumentError) as raised:
        Image(**arguments)
    assert raised.value.argument == named


@pytest.mark.parametrize(
    "command",
    [["sh", "-c", "true"], ["/bin/sh"], ["/usr/bin/env", "python"], ["bash"], ["../../bin/sh"]],
    ids=lambda command: command[0],
)
def test_without_namespaces_no_program_of_the_host_runs(bare_api, command):
    create(bare_api, manifest("host", {**BASE, "command": command}))

    def waiting():
        states = bare_api.read_namespaced_pod("host", "default").status.container_statuses
        state = states[0].state.waiting if states else None
        return state if state and state.reason == "CreateContainerError" else None

    assert "not a program of the image itself" in eventually(waiting).message


def test_without_namespaces_a_script_for_the_hosts_shell_does_not_run(bare_api, places, tmp_path):
    script = places["programs"] / "evil"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(0o755)
    link = places["programs"] / "shell"
    if not link.exists():
        link.symlink_to("/bin/sh")
    for name in ("evil", "shell"):
        create(bare_api, manifest(name, {"name": "base", "image": "programs", "command": [name]}))

        def refused(name=name):
            states = bare_api.read_namespaced_pod(name, "default").status.container_statuses
            return (
                states
                and states[0].state.waiting
                and states[0].state.waiting.reason == "CreateContainerError"
            )

        eventually(refused)
    assert not (tmp_path / "ran").exists()


def test_without_namespaces_a_program_of_the_image_runs_with_its_paths(bare_api, places):
    script = (
        "import os, pathlib, sys; print(pathlib.Path('dbt_project.yml').read_text().strip(), sys.argv[1:],"
        " os.environ['WHERE']); pathlib.Path('/usr/app/shop/new').touch()"
    )
    env = [{"name": "WHERE", "value": "/usr/app/shop/target"}]
    create(
        bare_api,
        manifest(
            "fits", {**BASE, "args": ["-c", script, "--dir=/usr/app/shop", "/usr/app/shopping"], "env": env}
        ),
    )
    assert finished(bare_api, "fits").status.phase == "Succeeded", log(bare_api, "fits")
    text = log(bare_api, "fits").decode()
    assert text.startswith("name: shop")
    assert "'/usr/app/shopping'" in text
    assert "--dir=/usr/app/shop'" not in text
    assert not (places["project"] / "new").exists()


def test_without_namespaces_every_exec_is_refused(bare_api, tmp_path):
    create(bare_api, manifest("held", {**BASE, "args": ["-c", "import time; time.sleep(600)"]}))
    running(bare_api, "held")
    response = connect(bare_api, "held", ["touch", str(tmp_path / "ran")])
    response.run_forever(timeout=240)
    assert "no PID namespaces" in response.read_stderr()
    assert response.returncode == 126
    assert not (tmp_path / "ran").exists()


def test_without_namespaces_a_hook_is_refused_and_the_pod_still_ends(bare, bare_api, tmp_path):
    hook = {"preStop": {"exec": {"command": ["touch", str(tmp_path / "ran")]}}}
    create(
        bare_api,
        manifest("unhooked", {**BASE, "args": ["-c", "import time; time.sleep(600)"], "lifecycle": hook}),
    )
    running(bare_api, "unhooked")
    bare_api.delete_namespaced_pod("unhooked", "default")
    eventually(lambda: any(fact.name == "unhooked" and fact.deleted_at for fact in bare.pods()))
    events = bare_api.list_namespaced_event("default", field_selector="involvedObject.name=unhooked").items
    assert "FailedPreStopHook" in [event.reason for event in events]
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def sentinel():
    """A shell of the user's, which the operator's kill command would find on the host."""
    shell = subprocess.Popen(["sh", "-c", "while true; do sleep 1; done"])
    yield shell
    assert shell.poll() is None, "a process outside of every pod was signalled"
    shell.kill()
    shell.wait()


KILL = "kill -2 $(pgrep -u $(id -u) -f 'sh')\n"
SIDECAR = ["sh", "-c", 'trap "exit 0" INT; while true; do sleep 1; done;']


@pytest.mark.usefixtures("sentinel")
@pytest.mark.parametrize("mode", ["api", "bare_api"])
def test_the_operators_kill_reaches_the_sidecar_and_nothing_else(request, mode):
    api = request.getfixturevalue(mode)
    create(api, manifest("sidecar", {"name": "airflow-xcom-sidecar", "image": "alpine", "command": SIDECAR}))
    running(api, "sidecar")
    response = connect(api, "sidecar", ["/bin/sh"], stdin=True)
    response.write_stdin(KILL)
    response.run_forever(timeout=240)
    pod = finished(api, "sidecar")
    assert pod.status.container_statuses[0].state.terminated.exit_code == 0


def test_the_emulated_sidecar_knows_no_other_command(bare_api, tmp_path):
    create(bare_api, manifest("sidecar", {"name": "s", "image": "alpine", "command": SIDECAR}))
    running(bare_api, "sidecar")
    for command in (["sh", "-c", f"touch {tmp_path}/ran"], ["sh", "-c", "cat /etc/passwd"], ["ls"]):
        response = connect(bare_api, "sidecar", command)
        response.run_forever(timeout=240)
        assert response.returncode == 126
        assert not response.read_stdout()
    response = connect(bare_api, "sidecar", ["/bin/sh"], stdin=True)
    response.write_stdin(f"touch {tmp_path}/ran\n")
    response.run_forever(timeout=240)
    assert response.returncode == 126
    assert not (tmp_path / "ran").exists()


def test_a_container_sees_its_own_processes_only(api):
    create(api, manifest("alone", container("ls -d /proc/[0-9]* | wc -l")))
    finished(api, "alone")
    assert int(log(api, "alone")) < 5


def test_a_virtual_environment_may_be_given_by_its_path_alone():
    with LocalKube({"a": sys.prefix}, isolation="none") as kube:
        assert kube.url.startswith("https://127.0.0.1:")


@pytest.mark.parametrize("mode", [IsolationMode.NAMESPACES, IsolationMode.NONE])
def test_a_signal_to_a_process_that_has_just_ended_does_not_hide_its_exit_code(mode, tmp_path):
    async def ended():
        try:
            isolation = await choose(mode, tmp_path)
        except ArgumentError:
            pytest.skip("no namespaces on this machine")
        around = Surroundings(tmp_path, "ending", [])
        process = await isolation.start(Command(["/bin/sh", "-c", "exit 3"], {}), Streams(), around)
        # The loop stands still while the process ends and its launcher is gone, so nothing is known of it yet.
        os.waitid(os.P_PID, process._launcher.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
        process.signal(signal.SIGTERM)
        return await process.wait()

    assert asyncio.run(ended()) == Exit(3)
