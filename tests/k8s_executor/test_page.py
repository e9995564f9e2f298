"""docs/kubernetes-executor.md holds the figures that were measured."""

import importlib.util
import json
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(scope="module")
def report():
    """The module that makes the tables."""
    spec = importlib.util.spec_from_file_location("k8s_executor_report", BENCH / "k8s_executor_report.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        spec.loader.exec_module(module)
    return module


def test_the_page_holds_the_figures_that_were_measured(report):
    page = report.PAGE.read_text()
    figures = json.loads((BENCH / "k8s_executor.json").read_text())
    assert {name for _, name, _ in report.BLOCK.findall(page)} == report.TABLES.keys()
    assert report.written(page, figures) == page
