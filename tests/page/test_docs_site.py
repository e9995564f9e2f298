"""The pages of artifacts: what they show, what they hand out, and what they never do."""

import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dbt_watch.page.docs_site import docs_router

KEY = {"dag_id": "shop", "run_id": "one", "task_id": "build.dbt_build"}
INDEX = '<html><script>n=[{data: "MANIFEST.JSON INLINE DATA"}, {data: "CATALOG.JSON INLINE DATA"}]</script>'
STORED = {
    "s3://lake/1/index.html": INDEX.encode(),
    "s3://lake/1/manifest.json": json.dumps(
        {"a": "</script><script>alert(1)</script>\u2028"}, ensure_ascii=False
    ).encode(),
    "s3://lake/1/catalog.json": b'{"b": 1}',
    "s3://lake/1/run_results.json": b"{}",
    "s3://lake/secret": b"not for anybody",
}
EVERYTHING = {
    "place": "s3://lake/1",
    "files": {place.rpartition("/")[2]: 7 for place in STORED if "/1/" in place},
}


@pytest.fixture
def get():
    kept = {("shop", "one", "build.dbt_build", -1): EVERYTHING}
    app = FastAPI(openapi_url=None)

    def told(*key):
        return kept.get(key)

    app.include_router(docs_router(told, STORED.__getitem__))
    client = TestClient(app)

    def get(path, **query):
        return client.get(path, params={**KEY, **query})

    get.kept = kept
    return get


def test_the_list_names_each_file_and_the_documentation(get):
    page = get("/files")
    assert page.status_code == 200
    assert {f">{name}</a>" in page.text for name in EVERYTHING["files"]} == {True}
    assert 'href="docs?dag_id=shop&amp;run_id=one' in page.text
    assert "script-src" not in page.headers["content-security-policy"]


def test_names_are_shown_as_text(get):
    get.kept["shop", "one", "build.dbt_build", -1] = {"place": "s3://<b>", "files": {"<script>": 1}}
    page = get("/files").text
    assert "<script>" not in page
    assert "<b>" not in page


def test_a_file_is_handed_out_for_download_only(get):
    answer = get("/file", name="index.html")
    assert answer.content == INDEX.encode()
    assert answer.headers["content-disposition"] == 'attachment; filename="index.html"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-security-policy"] == "sandbox"


@pytest.mark.parametrize("name", ["secret", "../secret", "", "compiled.tar.gz"])
def test_nothing_is_handed_out_but_what_the_task_has_kept(get, name):
    assert get("/file", name=name).status_code == 404


def test_the_documentation_is_one_page_in_a_sandbox_with_no_way_out(get):
    answer = get("/docs")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy
    assert "default-src 'none'" in policy
    assert '{"b": 1}' in answer.text
    assert answer.text.count("</script>") == 1
    assert "\u2028" not in answer.text


@pytest.mark.parametrize("path", ["/files", "/file", "/docs"])
def test_a_task_without_artifacts_has_no_pages(get, path):
    assert get(path, task_id="other", name="manifest.json").status_code == 404
    get.kept["shop", "one", "other", -1] = {"place": 7, "files": []}
    assert get(path, task_id="other", name="manifest.json").status_code == 404


def test_a_store_that_does_not_answer_is_told_without_its_words(get):
    get.kept["shop", "one", "build.dbt_build", -1] = {"place": "s3://gone", "files": {"manifest.json": 1}}
    answer = get("/file", name="manifest.json")
    assert (answer.status_code, answer.json()) == (502, {"detail": "manifest.json cannot be read: KeyError"})
