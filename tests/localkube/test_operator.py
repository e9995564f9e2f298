"""The unmodified KubernetesPodOperator runs pods, follows logs, returns XComs and cleans up, in both modes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from types import SimpleNamespace

import pytest

from .conftest import create, eventually, finished, manifest

SCRIPT = "import json, time\nprint('first line')\nprint('second line')\n{end}"
XCOM = "open('/airflow/xcom/return.json', 'w').write(json.dumps({'rows': [1, 2]}))"


@pytest.fixture(scope="module")
def operator_class(tmp_path_factory):
    os.environ.setdefault("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    # Airflow makes its home directory when it is imported.
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator  # noqa: PLC0415 - as said

    return KubernetesPodOperator


def context():
    pushed: dict[str, str] = {}
    instance = SimpleNamespace(
        dag_id="shop",
        task_id="pod",
        run_id="manual",
        try_number=1,
        map_index=-1,
        start_date=None,
        xcom_push=lambda key, value, **_: pushed.__setitem__(key, value),
    )
    return {
        "ti": instance,
        "task_instance": instance,
        "run_id": "manual",
        "dag": SimpleNamespace(dag_id="shop", parent_dag=None),
        "dag_run": SimpleNamespace(run_id="manual", logical_date=None),
    }


def operator(operator_class, kube, script, **more):
    return operator_class(
        task_id="pod",
        name="shop",
        namespace="default",
        kubernetes_conn_id=None,
        config_file=str(kube.kubeconfig),
        image=more.pop("image", "registry.example/python:1"),
        arguments=["-c", script],
        startup_check_interval_seconds=0.05,
        **more,
    )


@pytest.mark.parametrize("mode", ["kube", "bare"])
def test_it_returns_what_the_pod_wrote_and_touches_nothing_outside(
    request, operator_class, caplog, mode, capfd
):
    kube = request.getfixturevalue(mode)
    sentinel = subprocess.Popen(["sh", "-c", "while true; do sleep 1; done"])
    try:
        before = len(kube.pods())
        task = operator(operator_class, kube, SCRIPT.format(end=XCOM), do_xcom_push=True)
        assert task.execute(context()) == {"rows": [1, 2]}
        assert sentinel.poll() is None
    finally:
        sentinel.kill()
        sentinel.wait()
    facts = kube.pods()[before:]
    assert len(facts) == 1
    eventually(lambda: kube.pods()[before].deleted_at)
    fact = kube.pods()[before]
    assert dict(fact.exit_codes) == {"base": 0, "airflow-xcom-sidecar": 0}
    out, err = capfd.readouterr()
    assert "second line" in out + err + caplog.text


@pytest.mark.parametrize("mode", ["kube", "bare"])
def test_a_failing_pod_fails_the_task(request, operator_class, mode):
    kube = request.getfixturevalue(mode)
    task = operator(operator_class, kube, SCRIPT.format(end="raise SystemExit(3)"))
    with pytest.raises(Exception, match="returned a failure"):
        task.execute(context())
    eventually(lambda: kube.pods()[-1].deleted_at)
    assert dict(kube.pods()[-1].exit_codes) == {"base": 3}


def test_an_unknown_image_fails_the_launch(operator_class, kube):
    task = operator(operator_class, kube, "pass", image="registry.example/none:1")
    with pytest.raises(Exception, match=r"returned a failure|cannot be pulled") as raised:
        task.execute(context())
    assert "not found" in f"{raised.value} {raised.value.__context__}"


def test_on_kill_deletes_the_pod(operator_class, kube):
    task = operator(operator_class, kube, "import time; time.sleep(600)", termination_grace_period=0)
    task.pod = task.get_or_create_pod(task.build_pod_request_obj(context()), context())
    name = task.pod.metadata.name
    task.on_kill()
    eventually(lambda: any(fact.name == name and fact.deleted_at for fact in kube.pods()))


@pytest.mark.usefixtures("operator_class")
def test_the_async_hook_of_a_deferred_operator_reads_pods_and_logs(kube, api):
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook  # noqa: PLC0415 - as above

    create(api, manifest("deferred", "echo hello"))
    finished(api, "deferred")

    async def read():
        hook = AsyncKubernetesHook(
            conn_id=None, in_cluster=False, config_dict=json.loads(kube.kubeconfig.read_text())
        )
        pod = await hook.get_pod("deferred", "default")
        lines = await hook.read_logs("deferred", "default", container_name="base", since_seconds=3600)
        await hook.delete_pod("deferred", "default")
        return pod.status.phase, lines

    phase, lines = asyncio.run(read())
    assert phase == "Succeeded"
    assert "hello" in "".join(lines)
