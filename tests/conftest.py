"""Options of the whole suite: which cluster the end-to-end tests run on."""

from pathlib import Path

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("dbt_watch", "a real cluster for the end-to-end tests, instead of the local one")
    group.addoption("--kubeconfig", type=Path, help="the cluster, by its kubeconfig")
    group.addoption(
        "--image", help="an image with dbt-duckdb on PATH and examples/jaffle_shop at /usr/app/jaffle_shop"
    )
    group.addoption("--namespace", default="default", help="where the pods go; it must exist")


def pytest_configure(config):
    if bool(config.getoption("--kubeconfig")) != bool(config.getoption("--image")):
        raise pytest.UsageError("--kubeconfig and --image go together")
