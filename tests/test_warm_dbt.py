"""The dbt in the images of the tests, which is imported once for many pods: it does what it would do in a process of its own."""

import re
import subprocess
import sys

import pytest
from harness import DATABASE, until
from kubernetes import client, config

from dbt_watch.local.localkube import Image, LocalKube

# Of a Python that starts in the pod and imports dbt there, this tells on stderr; the program that asks is deaf to it.
TELLS_OF_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}
# Has dbt run as a child, and does something to it when it has started a node.
STRUCK = """
import os, subprocess, sys
dbt = subprocess.Popen(["dbt", "--log-format", "json", "build"], stdout=subprocess.PIPE)
for line in dbt.stdout:
    if b'"LogStartLine"' in line:
        {strike}
        break
dbt.stdout.read()
print("ended with", dbt.wait(), flush=True)
"""
# What dbt keeps of a run in its modules is as it was; then everything that reads a manifest is there.
AHEAD = """
import json, os, sys, threading
import dbt.adapters.duckdb
import dbt.adapters.factory
import dbt.deprecations
import dbt.flags
import dbt.task.test
import dbt.tracking
from dbt.contracts.graph.manifest import Manifest
from dbt.contracts.project import ProjectFlags
from dbt_common.clients.jinja import template_cache
from dbt_common.events.event_manager_client import get_event_manager
from mashumaro.core.meta.code.builder import CodeBuilder

from dbt_watch.server.worker.fork_server import compile_ahead

def state():
    factory, manager = dbt.adapters.factory.FACTORY, get_event_manager()
    return (
        dict(factory.adapters), dict(factory.plugins), set(dbt.deprecations.active_deprecations), list(manager.loggers),
        list(manager.callbacks), dict(vars(dbt.flags.get_flags())), dbt.tracking.active_user, dict(os.environ),
        threading.active_count(),
    )

before = state()
compile_ahead()
assert state() == before

def refuse(builder, *arguments, **options):
    raise AssertionError(f"{builder.cls} was not compiled")

CodeBuilder.add_pack_method = CodeBuilder.add_unpack_method = refuse
Manifest.from_msgpack(b"\\x80")
ProjectFlags.validate({})
with open(sys.argv[1]) as manifest:
    macros = json.load(manifest)["macros"].values()
texts = {macro["macro_sql"] for macro in macros if macro["package_name"] in {"dbt", "dbt_duckdb"}}
assert len(texts) > 400
assert texts <= set(template_cache.file_cache)
"""


@pytest.fixture(scope="module")
def kube(project, warm_dbt):
    place = "/usr/app/jaffle_shop"
    image = Image(
        venv=sys.prefix,
        mounts={**warm_dbt, place: project},
        workdir=place,
        env={"JAFFLE_SHOP_DB": DATABASE, **TELLS_OF_IMPORTS},
    )
    with LocalKube({"shop": image}) as kube:
        if not kube.isolated:
            pytest.skip("without namespaces dbt runs as ever")
        socket = warm_dbt["/run/warm_dbt"].source / "socket"
        until(socket.exists, "dbt is not imported")
        yield kube


@pytest.fixture
def run(kube, request):
    """Return a function that runs a command in a pod, and tells its exit code and its log."""
    api = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
    name = f"pod-{abs(hash(request.node.name))}"

    def run(*command):
        container = {"name": "base", "image": "shop", "command": list(command)}
        spec = {"restartPolicy": "Never", "containers": [container]}
        api.create_namespaced_pod("default", {"metadata": {"name": name}, "spec": spec})

        def has_ended():
            return api.read_namespaced_pod(name, "default").status.phase in {"Succeeded", "Failed"}

        until(has_ended, "the pod has not ended")
        (pod,) = [pod for pod in kube.pods() if pod.name == name]
        log = api.read_namespaced_pod_log(name, "default", _preload_content=False).data.decode()
        return pod.exit_codes["base"], log

    return run


def test_it_builds_in_the_pod_without_being_imported_there(run, project):
    results = project / "target/run_results.json"
    before = results.read_bytes() if results.exists() else None
    code, log = run("sh", "-c", f"dbt build --select raw_orders && ls {DATABASE} target")
    assert code == 0
    assert "OK loaded seed file main.raw_orders" in log
    assert f"{DATABASE}\n" in log
    assert "run_results.json" in log
    assert "dbt.cli" not in log  # among what was imported
    assert before == (results.read_bytes() if results.exists() else None)


def test_it_ends_with_dbts_own_exit_code(run):
    assert run("dbt", "no-such-command")[0] == 2


def test_it_is_interrupted_by_what_interrupts_dbt(run):
    _, log = run("python", "-c", STRUCK.format(strike="dbt.send_signal(2)"))
    # As in a process of its own, duckdb sometimes aborts as it is interrupted.
    assert re.search(r"ended with (1|2|-6)$", log, re.MULTILINE)


def test_it_dies_with_the_one_that_asked_for_it(run):
    code, log = run("python", "-c", STRUCK.format(strike="dbt.kill()"))
    assert code == 0
    assert "ended with -9\n" in log


def test_what_is_compiled_ahead_is_not_compiled_again_and_leaves_nothing_of_a_run(project):
    outcome = subprocess.run(
        [sys.executable, "-I", "-c", AHEAD, str(project / "target/manifest.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
