"""The files of `examples/server`: what they say is understood, hangs together, and starts a server."""

import json
import re
import shutil
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from kubernetes import client, config
from serving import copy_example, free_port, wait_for

from dbt_watch.local.localkube import Image, LocalKube

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/server"
MANIFESTS = list(yaml.safe_load_all((EXAMPLE / "kubernetes.yaml").read_text()))
KINDS = {
    "ConfigMap": client.V1ConfigMap, "PersistentVolumeClaim": client.V1PersistentVolumeClaim, "Service": client.V1Service,
    "Deployment": client.V1Deployment, "NetworkPolicy": client.V1NetworkPolicy,
}  # fmt: skip


def of_kind(kind):
    (found,) = [manifest for manifest in MANIFESTS if manifest["kind"] == kind]
    return found


def problems(kind, value, path=""):
    """Yield what the API of Kubernetes does not know of an object, by the models of its official client."""
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        for number, item in enumerate(value):
            yield from problems(match[1], item, f"{path}[{number}]")
    elif match := re.fullmatch(r"dict[(\[]str, (.+)[)\]]", kind):
        for name, item in value.items():
            yield from problems(match[1], item, f"{path}.{name}")
    elif kind in {"str", "int", "bool", "float"}:
        if not isinstance(value, {"str": str, "int": int, "bool": bool, "float": float}[kind]):
            yield f"{path}: {value!r} is no {kind}"
    elif kind not in {"object", "datetime"}:
        yield from problems_of_model(getattr(client, kind), value, path)


def problems_of_model(model, value, path):
    names = {field: attribute for attribute, field in model.attribute_map.items()}
    for field, item in value.items():
        if field not in names:
            yield f"{path}.{field}: unknown"
        else:
            yield from problems(model.openapi_types[names[field]], item, f"{path}.{field}")
    # Each model refuses to be made without what it requires.
    try:
        model(**{names[field]: item for field, item in value.items() if field in names})
    except ValueError as error:
        yield f"{path}: {error}"


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_kubernetes_knows_every_field(manifest):
    assert list(problems(KINDS[manifest["kind"]].__name__, manifest)) == []


def test_the_check_of_fields_finds_what_is_wrong():
    wrong = {"metadata": {"name": 1}, "spec": {"replicas": "1", "selector": {}, "template": {}, "x": 1}}
    assert len(list(problems("V1Deployment", wrong))) == 3


def test_the_manifests_hang_together():
    deployment, pod = of_kind("Deployment"), of_kind("Deployment")["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == of_kind("Service")["spec"]["selector"]
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    (container,) = pod["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in of_kind("Service")["spec"]["ports"]} <= ports
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert (
        volumes["state"]["persistentVolumeClaim"]["claimName"]
        == of_kind("PersistentVolumeClaim")["metadata"]["name"]
    )
    assert volumes["settings"]["configMap"]["name"] == of_kind("ConfigMap")["metadata"]["name"]
    settings = yaml.safe_load(of_kind("ConfigMap")["data"]["server.yml"])
    assert settings == yaml.safe_load((EXAMPLE / "server.yml").read_text())
    assert settings["port"] == container["ports"][0]["containerPort"]
    assert settings["stop_grace_s"] + 20 < pod["spec"]["terminationGracePeriodSeconds"]


def test_the_container_may_do_nothing_that_it_does_not_need():
    spec = of_kind("Deployment")["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    security = spec["containers"][0]["securityContext"]
    assert security == {
        "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def instructions():
    text = re.sub(r"\\\n\s*", "", (EXAMPLE / "Dockerfile").read_text())
    return [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_runs_as_somebody_without_rights():
    found = dict(instructions())
    assert found["USER"] == str(
        of_kind("Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    )
    for name, value in instructions():
        if name == "COPY":
            assert (ROOT / value.split()[0]).exists()


def test_the_image_installs_what_the_server_needs():
    wanted = re.search(
        r"^server = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE
    )[1]
    extra = set(re.findall(r'^  "([^"]+)",', wanted, re.MULTILINE))
    assert set((EXAMPLE / "requirements.txt").read_text().split()) - extra == {"msgspec>=0.19"}
    assert extra < set((EXAMPLE / "requirements.txt").read_text().split())


SERVICE_FIELDS = {
    "image", "build", "ports", "volumes", "tmpfs", "user", "read_only", "cap_drop", "security_opt", "init", "restart",
    "stop_grace_period", "healthcheck",
}  # fmt: skip


def test_the_compose_file_has_known_fields_and_hangs_together():
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
    assert set(compose) == {"services", "volumes"}
    (service,) = compose["services"].values()
    assert set(service) <= SERVICE_FIELDS
    assert set(service["healthcheck"]) == {"test", "interval", "timeout", "retries", "start_period"}
    build = service["build"]
    assert (EXAMPLE / build["context"] / build["dockerfile"]).resolve() == EXAMPLE / "Dockerfile"
    assert service["read_only"]
    assert service["user"] == dict(instructions())["USER"]
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        assert source in compose["volumes"] or (EXAMPLE / source).exists()


@pytest.mark.server
def test_the_server_starts_from_the_entry_command_of_its_image_on_a_cluster(tmp_path):
    port = free_port()
    settings = yaml.safe_load((EXAMPLE / "server.yml").read_text())
    # localkube's network is that of this machine, and its image has one environment.
    settings["host"], settings["projects"]["jaffle_shop"]["dbt"] = "127.0.0.1", "dbt"
    pod = of_kind("Deployment")["spec"]["template"]
    pod |= {"apiVersion": "v1", "kind": "Pod", "metadata": {**pod["metadata"], "name": "server"}}
    (container,) = pod["spec"]["containers"]
    container["args"] = ["--port", str(port)]
    # The environment of these tests may be below it.
    container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] != "tmp"]
    for volume in pod["spec"]["volumes"]:
        if volume.pop("persistentVolumeClaim", None):
            volume["emptyDir"] = {}
    made = dict(value.partition("=")[::2] for value in dict(instructions())["ENV"].split())
    image = Image(
        venv=sys.prefix,
        mounts={"/projects/jaffle_shop": str(copy_example(tmp_path))},
        env={name: value for name, value in made.items() if name != "PATH"},
        entrypoint=json.loads(dict(instructions())["ENTRYPOINT"]),
    )
    with LocalKube({container["image"]: image}) as kube:
        api = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
        settings_map = of_kind("ConfigMap") | {"data": {"server.yml": yaml.safe_dump(settings)}}
        api.create_namespaced_config_map("default", settings_map)
        api.create_namespaced_pod("default", pod)
        url = f"http://127.0.0.1:{port}"

        def is_ready():
            status = api.read_namespaced_pod("server", "default").status.phase
            assert status in {"Pending", "Running"}, api.read_namespaced_pod_log("server", "default")
            try:
                return httpx.get(f"{url}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_for(is_ready, 120)
        except AssertionError:
            pytest.fail(api.read_namespaced_pod_log("server", "default"))
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        assert httpx.get(f"{url}/invocations").status_code == 401
        api.delete_namespaced_pod("server", "default")
    shutil.rmtree(tmp_path / "jaffle_shop")
