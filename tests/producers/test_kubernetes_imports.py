"""The Kubernetes clients, loaded a module at a time, are the same as ever; each in a process of its own."""

import json
import subprocess
import sys

import pytest

from dbt_watch.airflow.kubernetes_imports import homes_of

PRODUCER = "from dbt_watch.authoring.pod_arguments import watching_class; watching_class(None)"
PACKAGES = [
    f"{client}.client{part}"
    for client in ("kubernetes", "kubernetes_asyncio")
    for part in ("", ".api", ".models")
]
NAMES = f"""
import importlib
found = {{}}
for package in {PACKAGES}:
    module = importlib.import_module(package)
    values = {{name: getattr(module, name) for name in dir(module) if not name.startswith("_")}}
    found[package] = {{name: f"{{value.__module__}}.{{value.__name__}}" for name, value in values.items() if isinstance(value, type)}}
    found[package]["__version__"] = getattr(module, "__version__", None)
print(json.dumps(found))
"""


def printed_by(*lines):
    script = "\n".join(["import sys, json", *lines])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=480
    )
    return json.loads(done.stdout.splitlines()[-1])


def loaded_after(*lines):
    """Return how many modules of the Kubernetes clients some code loads."""
    return printed_by(*lines, "print(sum(name.startswith('kubernetes') for name in sys.modules))")


def test_a_producer_loads_few_of_their_modules():
    assert loaded_after("import kubernetes.client, kubernetes_asyncio.client") > 1_500
    assert loaded_after(PRODUCER) < 150


def test_they_have_the_same_names_for_the_same_things():
    usual, ours = printed_by(NAMES), printed_by(PRODUCER, NAMES)
    assert len(usual["kubernetes.client"]) > 700
    assert ours == usual


def test_they_have_no_more_names_than_usual():
    assert printed_by(
        PRODUCER,
        "import kubernetes.client",
        "print(json.dumps([hasattr(kubernetes.client, name) for name in ('V1Nothing', '__nothing__', 'V1Pod', 'rest')]))",
    ) == [False, False, True, True]


def test_what_is_loaded_later_is_loaded_so_too():
    later = "from kubernetes_asyncio.client import CoreV1Api, V1Pod; import kubernetes_asyncio.client.models"
    assert loaded_after(PRODUCER, later) < 200


def test_a_client_that_is_loaded_already_stays_as_it_is():
    state = "print(json.dumps(['__getattr__' in vars(sys.modules[name]) for name in ('kubernetes.client', 'kubernetes_asyncio.client')]))"
    assert printed_by("import kubernetes.client", PRODUCER, state) == [False, True]


def test_the_names_of_a_package_and_where_they_are():
    source = '"""What it is."""\n\nfrom __future__ import absolute_import\n\n__version__ = "1.0"\n# one\nfrom shop.a_b import AB\n'
    assert homes_of(source) == {"AB": "shop.a_b"}


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "from .pod import Pod",
        "from shop.pod import Pod as Container",
        "from shop.pod import (Pod)",
        "from shop.pod import *",
        "from shop.pod import pod",
        "pods = {}",
        "def pod(): ...",
        "if True: pass",
        "Pod()",
    ],
)
def test_a_package_that_does_more_is_loaded_as_usual(line):
    assert homes_of(f"from shop.order import Order\n{line}\n") is None
