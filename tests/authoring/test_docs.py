"""What the documentation shows of the examples is what stands in them."""

import re
from pathlib import Path

import pytest
from code_blocks import blocks_of, code

from dbt_watch import NodeResult
from dbt_watch.authoring.options import DEFAULTS, ApiOptions, ProjectOptions
from dbt_watch.producers.api.connection import KNOWN_EXTRAS

ROOT = Path(__file__).parents[2]
PAGES = (
    "mapping",
    "values",
    "nodes",
    "freshness",
    "container",
    "gke",
    "eks",
    "api",
    "profiles",
    "assets",
    "backfill",
    "artifacts",
    "state",
    "lineage",
    "operations",
)


def blocks(page):
    return [block.text for block in blocks_of(page) if block.language == "python"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_its_example_line_for_line(page):
    path = ROOT / f"docs/{page}.md"
    examples = re.findall(r"\(\.\./(examples/\w+\.py)\)", path.read_text())
    sources = [code((ROOT / example).read_text()) for example in examples]
    shown = blocks(path)
    assert shown
    for block in shown:
        assert any(code(block) in source for source in sources), (
            f"{page}.md shows what no example of it holds:\n{block}"
        )


@pytest.mark.parametrize(
    "path",
    [*(ROOT / "examples").glob("*_dag.py"), *(ROOT / "docs").rglob("*.md")],
    ids=lambda path: path.name,
)
def test_a_number_of_rows_that_is_not_known_is_never_taken_for_none_in_what_people_copy(path):
    code_of_page = path.read_text() if path.suffix == ".py" else "\n".join(blocks(path))
    assert not re.search(r"rows_affected\W+or\b|rows_affected\W+(or\W+)?0\b", code_of_page)


def test_every_page_is_named_on_the_first_one():
    first = (ROOT / "docs/authoring.md").read_text()
    for page in PAGES:
        assert f"({page}.md)" in first


def test_the_page_lists_exactly_the_options_of_the_decorator():
    page = (ROOT / "docs/authoring.md").read_text()
    table = page.split("## Arguments of `@dbt_k8s_project`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(["manifest", *ProjectOptions.__annotations__])


def test_the_page_of_a_server_lists_the_options_of_its_decorator_and_of_its_connection():
    page = (ROOT / "docs/api.md").read_text()
    for heading, names in (
        ("## Arguments", ["manifest", "conn_id", "deferrable", *ApiOptions.__annotations__]),
        ("## The connection", KNOWN_EXTRAS),
    ):
        table = page.split(f"\n{heading}\n")[1].split("\n## ")[0]
        rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(names)


def test_each_option_has_a_default_and_is_explained_below_its_definition():
    assert DEFAULTS.keys() == ProjectOptions.__annotations__.keys()
    source = (ROOT / "dbt_watch/authoring/options.py").read_text()
    for name in DEFAULTS:
        assert re.search(rf'^    {name}: .*\n    """', source, re.MULTILINE), name


def test_the_page_of_results_lists_all_that_a_result_holds():
    page = (ROOT / "docs/nodes.md").read_text()
    table = page.split("| of a `NodeResult` |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed >= set(NodeResult.__struct_fields__)
    assert all(hasattr(NodeResult, name) for name in listed)
