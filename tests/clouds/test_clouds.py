"""GKE's and EKS's own operators, each with its own way to the cluster, on a real Airflow; see `conftest.py` for what stands in."""

import pytest

pytest.importorskip("moto", reason="the providers are large; `nox -s clouds` installs them")

from conftest import EXAMPLES, ON_WORKERS

CASES = [*EXAMPLES, *ON_WORKERS]


@pytest.fixture(params=CASES)
def run(request, run_of):
    return run_of(request.param)


def test_a_broken_model_fails_its_task_and_what_depends_on_it_with_dbts_words(run):
    assert run.state == "failed"
    assert "order_totl" in run.log("build.orders", until="Candidate bindings")
    words = "not built: upstream `orders` failed"
    assert run.states["build.customers"] == "failed"
    assert words in run.log("build.customers", until=words)
