"""Who sees the page and its data, with which headers, and behind which proxy."""

import pytest
from made_airflow import DAG, RUN

DATA = ("runs", "projects", "record", "changes", "events", "history", "node", "files")
QUERY = {"dag_id": DAG, "run_id": RUN}


@pytest.mark.parametrize("what", DATA)
def test_data_is_refused_to_whom_airflow_does_not_know_and_to_whom_it_allows_nothing(page, shop, what):
    for user, status in (("", 401), ("stranger", 403)):
        if user:
            page.headers["x-user"] = user
        else:
            page.headers.pop("x-user", None)
        answer = page.get(f"/api/{what}", params=QUERY)
        assert answer.status_code == status
        assert set(answer.json()) == {"detail"}


def test_whoever_is_not_logged_in_is_sent_to_the_login_and_back(page):
    del page.headers["x-user"]
    answer = page.get("/run", params={"dag_id": DAG, "run_id": "a b+c"}, follow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["location"] == (
        "../api/v2/auth/login?next=%2Fproxy%2Fdbt_watch%2Frun%3Fdag_id%3Dshop%26run_id%3Da%2Bb%252Bc"
    )


def test_the_page_is_refused_to_one_who_may_not_see_the_dag(page):
    page.headers["x-user"] = "stranger"
    answer = page.get("/run", params=QUERY, follow_redirects=False)
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/plain")


def test_every_answer_allows_nothing_but_its_own_scripts_and_airflows_frame(page, shop):
    shop.begin()
    for address in ("/run", "/api/record", "/api/nothing", "/assets/icon.svg"):
        headers = page.get(address, params=QUERY).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["x-content-type-options"] == "nosniff"


def test_data_is_json_that_is_kept_nowhere_whatever_it_holds(page, shop):
    shop.begin()
    hostile = "</script><script>alert(1)</script>"
    shop.tell(shop.result("raw", "error", 0, 1, message=hostile))
    answer = page.get("/api/record", params=QUERY)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert hostile in [node.get("message") for node in answer.json()["record"]["nodes"]]


def test_the_page_refers_to_nothing_by_a_path_from_the_root(page):
    text = page.get("/run", params=QUERY).text
    assert not [part for part in ('src="/', 'href="/', "http://", "https://") if part in text]
