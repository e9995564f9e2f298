"""What the forge and citation tools read of the repository is in the form that they expect."""

import re
from datetime import date
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / ".github/ISSUE_TEMPLATE"
# https://docs.github.com, "Syntax for GitHub's form schema".
ATTRIBUTES = {
    "markdown": {"value"},
    "input": {"label", "description", "placeholder", "value"},
    "textarea": {"label", "description", "placeholder", "value", "render"},
    "dropdown": {"label", "description", "options", "multiple", "default"},
    "checkboxes": {"label", "description", "options"},
}


def read(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_an_issue_form_has_the_keys_that_github_knows(name):
    form = read(TEMPLATES / name)
    assert form.keys() <= {"name", "description", "body", "labels", "title", "assignees", "projects", "type"}
    assert form["name"]
    assert form["description"]
    fields = [item for item in form["body"] if item["type"] != "markdown"]
    assert (
        len({item["id"] for item in fields})
        == len({item["attributes"]["label"] for item in fields})
        == len(fields)
    )
    for item in form["body"]:
        assert item.keys() <= {"type", "id", "attributes", "validations"}
        assert item["attributes"].keys() <= ATTRIBUTES[item["type"]]
        assert re.fullmatch(r"[\w-]+", item.get("id", "x"))
    assert any(item.get("validations", {}).get("required") for item in fields)


def test_a_bug_report_asks_for_versions_a_report_and_a_log():
    required = {
        item["id"]
        for item in read(TEMPLATES / "bug.yml")["body"]
        if item.get("validations") == {"required": True}
    }
    assert {"versions", "report", "log"} <= required
    assert "dbt-watch report" in (TEMPLATES / "bug.yml").read_text()


def test_whoever_opens_an_issue_chooses_a_form():
    assert read(TEMPLATES / "config.yml") == {"blank_issues_enabled": False, "contact_links": []}


def test_the_citation_has_what_its_schema_requires():
    citation = read(ROOT / "CITATION.cff")
    known = {
        "cff-version",
        "message",
        "type",
        "title",
        "abstract",
        "version",
        "license",
        "authors",
        "keywords",
        "date-released",
    }
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() <= known
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    # A person has a family name or an alias, an entity a name.
    assert all({"name", "family-names", "alias"} & author.keys() for author in citation["authors"])
    assert len(set(citation["keywords"])) == len(citation["keywords"]) > 0
    assert isinstance(citation.get("date-released", date.min), date)


def test_the_citation_is_of_this_version():
    citation, package = read(ROOT / "CITATION.cff"), metadata("dbt-watch")
    assert (citation["version"], citation["license"]) == (package["Version"], package["License-Expression"])
    assert citation["abstract"] == package["Summary"]


def test_a_pull_request_is_asked_for_a_test_and_a_line_of_the_changelog():
    text = (ROOT / ".github/PULL_REQUEST_TEMPLATE.md").read_text()
    assert "- [ ] a test fails without the change" in text
    assert "CHANGELOG.md" in text
