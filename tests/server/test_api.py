"""What the API answers, with a stand-in for dbt."""

import json
import signal
import threading
import time

import pytest
from serving import DBT, command

from dbt_watch.server.files import files_of


def test_an_invocation_runs_and_its_state_log_and_artifacts_can_be_read(desk):
    answer = desk.post(command(say="hello"), "one")
    assert answer.json()["state"] == "PENDING"
    assert desk.client.get("/invocations/one").json()["state"] == "PENDING"
    desk.runner.work()
    found = desk.client.get("/invocations/one").json()
    assert (found["state"], found["exit_code"], found["target"]) == ("SUCCESS", 0, "dev")
    assert "hello" in desk.log()
    assert answer.json()["log_path"] == found["log_path"]
    assert set(desk.client.get("/invocations/one/artifacts").json()["artifacts"]) == {"run_results.json"}
    assert desk.client.get("/invocations/one/artifacts/run_results.json").json()["by"] == "one"


def test_dbt_gets_its_options_and_its_places_from_the_server(desk):
    desk.run()
    said = json.loads(desk.log().splitlines()[0])["info"]["msg"]
    assert "'--log-format', 'json', '--log-level', 'debug'" in said
    assert said.endswith("'--target', 'dev']")
    assert (desk.settings.state_dir / "targets/shop/dev/run_results.json").exists()


@pytest.mark.parametrize(
    ("asked", "state", "kind"),
    [
        ({"exit": 1, "error": "orders failed"}, "FAILURE", "NodesFailed"),
        ({"exit": 2, "error": "orders failed"}, "FAILURE", "DbtError"),
        ({"signal": signal.SIGKILL}, "INTERNAL_ERROR", "DbtKilled"),
    ],
)
def test_how_dbt_ended_is_told(desk, asked, state, kind):
    found = desk.run(**asked)
    assert (found["state"], found["exc_type"]) == (state, kind)
    assert ("orders failed" in found["exc_message"]) == ("error" in asked)


def test_a_dbt_that_is_not_there_is_an_internal_error(desk):
    (desk.config.parent / DBT).unlink()
    found = desk.run()
    assert (found["state"], found["exc_type"]) == ("INTERNAL_ERROR", "ArgumentError")


def test_an_unknown_invocation_is_not_found_with_200(desk):
    answer = desk.client.get("/invocations/nothing")
    assert (answer.status_code, answer.json()) == (200, {"task_id": "nothing", "state": "NOT_FOUND"})
    for path in ("log", "artifacts", "artifacts/run_results.json"):
        assert desk.client.get(f"/invocations/nothing/{path}").status_code == 404
    assert desk.client.post("/invocations/nothing/abort").status_code == 404


def test_the_same_request_again_runs_nothing_a_second_time(desk):
    desk.run()
    again = desk.post(command(), "one")
    assert (again.status_code, again.json()["state"]) == (200, "SUCCESS")
    desk.runner.work()
    assert (desk.config.parent / "runs.log").read_text().count("begin") == 1


def test_another_request_with_the_same_task_id_is_refused(desk):
    desk.run()
    refused = desk.post(command(say="something else"), "one")
    assert refused.status_code == 409
    assert set(refused.json()) == {"status_code", "message", "data"}


@pytest.mark.parametrize(
    "body",
    [
        {}, {"command": []}, {"command": "build"}, {"command": [1]}, {"command": ["rm", "-rf"]}, {"command": ["deps"]},
        {"command": ["build"], "task_id": "../x"}, {"command": ["build"], "task_id": "a/b"}, {"command": ["build"], "task_id": ""},
        {"command": ["build"], "project_dir": "/etc"}, {"command": ["build"], "project_dir": "../shop"},
        {"command": ["build"], "callback_url": "http://169.254.169.254/"}, {"command": ["build"], "more": 1},
        {"command": ["build", "--target", "other"]}, {"command": ["build", "--state", "/etc"]}, [], "x", None,
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_422_and_says_why(desk, body):
    answer = desk.client.post("/invocations", json=body)
    assert answer.status_code == 422
    assert answer.json()["status_code"] == 422
    assert answer.json()["message"]


def test_a_project_is_named_by_its_name_or_its_directory(desk_with):
    desk = desk_with(projects=("shop", "bank"))
    directory = str(desk.settings.projects["bank"].directory)
    for asked in ("bank", directory, f"{directory}/"):
        task_id = desk.post(["build"], project_dir=asked).json()["task_id"]
        assert desk.client.get(f"/invocations/{task_id}").json()["project"] == "bank"
    assert desk.post(["build"]).status_code == 422


def test_a_body_that_is_too_large_is_refused(desk_with):
    desk = desk_with(limits={"body_bytes": 1000})
    assert desk.post(["build", "--vars", "x" * 2000]).status_code == 413


def test_no_more_wait_than_may(desk_with):
    desk = desk_with(limits={"queued": 2})
    assert [desk.post(["build"]).status_code for _ in range(3)] == [200, 200, 429]


def test_what_waits_is_aborted_at_once(desk):
    desk.post(command(), "one")
    assert desk.client.post("/invocations/one/abort").json()["state"] == "ABORTED"
    desk.runner.work()
    assert not (desk.config.parent / "runs.log").exists()
    assert desk.client.post("/invocations/one/abort").json()["state"] == "ABORTED"


def test_a_list_is_read_page_by_page_and_can_be_filtered(desk_with):
    desk = desk_with(projects=("shop", "bank"))
    for number in range(5):
        target = ["--target", "prod"] if number == 2 else []
        desk.post(["build", *target], f"t{number}", project_dir="bank" if number == 3 else "shop")
    desk.client.post("/invocations/t0/abort")
    first = desk.client.get("/invocations", params={"limit": 3}).json()
    second = desk.client.get("/invocations", params={"limit": 3, "before": first["next"]}).json()
    assert [one["task_id"] for one in first["invocations"] + second["invocations"]] == [
        "t4",
        "t3",
        "t2",
        "t1",
        "t0",
    ]
    assert "next" not in second
    for params, expected in (
        ({"project": "bank"}, ["t3"]),
        ({"state": "ABORTED"}, ["t0"]),
        ({"state": ["ABORTED", "PENDING"], "project": "shop"}, ["t4", "t2", "t1", "t0"]),
        ({"target": "prod"}, ["t2"]),
        ({"project": "no"}, []),
    ):
        found = desk.client.get("/invocations", params=params).json()["invocations"]
        assert [one["task_id"] for one in found] == expected


def test_a_log_is_read_from_an_offset_on_to_its_end(desk):
    desk.post(command(say="é" * 100), "one")
    answer = desk.client.get("/invocations/one/log")
    assert (answer.content, answer.headers["X-Log-Complete"]) == (b"", "false")
    desk.runner.work()
    whole = desk.client.get("/invocations/one/log")
    data, offset, complete = b"", 0, "false"
    while complete == "false":
        part = desk.client.get("/invocations/one/log", params={"offset": offset, "limit": 7})
        data += part.content
        offset, complete = int(part.headers["X-Log-Offset"]), part.headers["X-Log-Complete"]
    assert data == whole.content == files_of(desk.settings.state_dir, "one").log.read_bytes()
    assert int(whole.headers["X-Log-Size"]) == offset == len(data)
    assert desk.client.get("/invocations/one/log", params={"offset": 10**9}).content == b""
    assert desk.client.get("/invocations/one/log", params={"offset": 5, "follow": True}).content == data[5:]


@pytest.mark.parametrize("name", ["..%2Fserver.db", "log.jsonl", "%2e%2e", "run_results.json%00", "....//x"])
def test_no_path_leads_to_another_file(desk, name):
    desk.run()
    for path in (f"/invocations/one/artifacts/{name}", f"/invocations/{name}/log"):
        answer = desk.client.get(path)
        assert answer.status_code in {404, 422}


def test_no_link_leads_a_state_out_of_the_project(desk):
    (desk.settings.projects["shop"].directory / "out").symlink_to("/etc")
    assert desk.post(["build", "--state", "out"]).status_code == 422
    assert desk.post(["build", "--state", "prod/state"]).status_code == 200


def test_secrets_are_in_no_log_no_artifact_and_no_answer(desk_with, monkeypatch):
    monkeypatch.setenv("WAREHOUSE", "from-outside")
    monkeypatch.setenv("OF_THE_SERVER", "not for dbt")
    desk = desk_with(of_projects={"env_from": ["WAREHOUSE"]})
    found = desk.run(password="sesame", say="sesame and from-outside", show="WAREHOUSE")  # noqa: S106 - a word to look for
    assert "sesame" not in json.dumps(found)
    whole = desk.log() + desk.client.get("/invocations/one/artifacts/run_results.json").text
    assert "sesame" not in whole
    assert "from-outside" not in whole
    assert "***" in whole
    desk.run("two", show="OF_THE_SERVER")
    assert "not there" in desk.log("two")


def test_a_log_and_an_artifact_that_are_too_large_are_not_kept_whole(desk_with):
    desk = desk_with(limits={"log_bytes": 5_000, "artifact_bytes": 5_000})
    assert desk.run(megabytes=1)["state"] == "SUCCESS"
    assert len(desk.log()) < 5_200
    assert "longer than 5000 bytes" in desk.log().splitlines()[-1]
    assert desk.run("two", say="x" * 6_000)["state"] == "SUCCESS"
    assert desk.client.get("/invocations/two/artifacts").json()["artifacts"] == {}


def test_a_part_of_a_log_may_be_waited_for(desk):
    desk.post(command(say="at last"), "one")
    began = time.monotonic()
    empty = desk.client.get("/invocations/one/log", params={"wait": 0.3})
    assert time.monotonic() - began >= 0.3
    assert (empty.content, empty.headers["X-Log-Complete"]) == (b"", "false")
    worker = threading.Timer(0.5, desk.runner.work)
    worker.start()
    part = desk.client.get("/invocations/one/log", params={"wait": 60})
    assert part.content
    worker.join()
    following = {"offset": int(desk.client.get("/invocations/one/log").headers["X-Log-Size"]), "wait": 60}
    end = desk.client.get("/invocations/one/log", params=following)
    assert (end.content, end.headers["X-Log-Complete"]) == (b"", "true")
    assert time.monotonic() - began < 50


def test_no_more_logs_are_followed_than_may(desk_with):
    desk = desk_with(limits={"followers": 0})
    desk.post(command(), "one")
    began = time.monotonic()
    assert desk.client.get("/invocations/one/log", params={"wait": 60}).status_code == 200
    assert time.monotonic() - began < 50, "it is not waited for either"
    desk.runner.work()
    assert desk.client.get("/invocations/one/log", params={"follow": True}).status_code == 503
    assert desk.client.get("/invocations/one/log").status_code == 200


def test_time_runs_out_for_an_invocation(desk_with):
    desk = desk_with(of_projects={"time_limit_s": 0.5})
    found = desk.run(sleep=30)
    assert (found["state"], found["exc_type"]) == ("INTERNAL_ERROR", "TimeLimit")


def test_what_dbt_has_left_running_is_not_waited_for(desk):
    """It is ended with dbt."""
    began = time.monotonic()
    assert desk.run(child=600)["state"] == "SUCCESS"
    assert time.monotonic() - began < 240


def test_health_readiness_and_metrics(desk):
    public = desk.client_of(None)
    assert public.get("/healthz").json() == {"status": "ok"}
    assert (public.get("/readyz").status_code, public.get("/readyz").json()["status"]) == (
        503,
        "there are no workers",
    )
    assert public.get("/metrics").status_code == 401
    desk.post(["build"])
    text = desk.client.get("/metrics").text
    assert 'dbt_watch_invocations{project="shop",state="PENDING"} 1.0' in text
    assert 'path="/invocations"' in text


def test_projects_are_listed_with_what_they_allow(desk):
    (project,) = desk.client.get("/projects").json()["projects"]
    assert (project["name"], project["targets"], project["default_target"]) == (
        "shop",
        ["dev", "prod"],
        "dev",
    )
    assert "build" in project["commands"]
