"""`dbt-watch report`: of files and of a run of a DAG, in each format, and what it says when it cannot."""

import json
import subprocess
import sys
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from made_runs import INDEX, RECORDINGS, START, artifact, log, manifest

from dbt_watch.core.journal.format import Chunk, Closed, Page, encode_page, part_key
from dbt_watch.core.results import NodeResult
from dbt_watch.core.run_notes import Outline, pack_outline
from dbt_watch.core.xcom_values import xcom_value
from dbt_watch.reporting.dag_runs import TOKEN_VARIABLE
from dbt_watch.reporting.run_record import record_in

FAIL = log("1.12__duckdb__jaffle_fail")


@pytest.mark.parametrize("name", INDEX)
def test_every_recorded_log_gives_a_report(run, tmp_path, name):
    status, out, err = run(log(name), "--html", tmp_path / "report.html", "--svg", tmp_path / "report.svg")
    assert (status, err) == (0, "")
    assert out
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "report.svg").read_text().startswith("<svg")


def test_json_is_one_object_that_the_command_takes_itself(run, tmp_path):
    status, out, err = run(FAIL, "--format", "json")
    assert (status, err) == (0, "")
    record = record_in(out)
    saved = tmp_path / "before.json"
    saved.write_text(out)
    assert record_in(run(saved, "--format", "json")[1]) == record
    compared = record_in(run(FAIL, "--compare", saved, "--format", "json")[1])
    assert compared.comparison.before.keys() == {node.unique_id for node in record.nodes}


def test_csv_goes_to_standard_output(run):
    status, out, _ = run(FAIL, "--format", "csv")
    assert status == 0
    assert out.startswith("unique_id,name,kind,state,seconds,")


def test_several_files_are_the_attempts_of_one_run(run, tmp_path):
    bad = {"status": "error", "message": "no"}
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_bytes(
        artifact({"model.shop.a": (0, 1, {}), "model.shop.b": (1, 2, bad)}, invocation_id="i-1")
    )
    second.write_bytes(artifact({"model.shop.b": (10, 12, {})}, invocation_id="i-2"))
    record = record_in(run(first, second, "--format", "json")[1])
    assert [command.label for command in record.commands] == ["attempt 1", "attempt 2"]
    assert {node.unique_id: (node.state, node.attempt) for node in record.nodes} == {
        "model.shop.a": ("success", 1),
        "model.shop.b": ("success", 2),
    }
    tries = [
        bar.state
        for command in record.commands
        for lane in command.lanes
        for bar in lane.bars
        if bar.node == "model.shop.b"
    ]
    assert tries == ["error", "success"]
    assert (record.outcome, record.causes) == ("success", ())


def test_run_results_add_what_the_log_does_not_tell(run):
    name = "fusion-2.0.0-preview.196__duckdb__build_t4_fail_fresh"
    alone = record_in(run(log(name), "--format", "json")[1])
    both = record_in(
        run(log(name), "--run-results", RECORDINGS / INDEX[name]["artifact"], "--format", "json")[1]
    )
    rows = [sum(node.rows is not None for node in record.nodes) for record in (alone, both)]
    assert rows[0] < rows[1]


def test_a_manifest_gives_the_critical_path(run, tmp_path):
    path, results = tmp_path / "manifest.json", tmp_path / "run_results.json"
    path.write_bytes(manifest({"model.shop.a": [], "model.shop.b": ["model.shop.a"]}))
    results.write_bytes(artifact({"model.shop.a": (0, 2, {}), "model.shop.b": (2, 5, {})}))
    status, out, _ = run(results, "--manifest", path)
    assert status == 0
    assert "Critical path: 5.00 s" in out


def test_a_log_may_come_from_standard_input():
    command = [sys.executable, "-m", "dbt_watch.cli", "report", "-", "--format", "json"]
    done = subprocess.run(command, input=FAIL.read_bytes(), capture_output=True, timeout=240, check=True)
    assert record_in(done.stdout).outcome == "failure"


def test_reading_a_log_imports_neither_airflow_nor_dbt_nor_a_client_for_http():
    code = (
        "import sys; from dbt_watch.cli import main; main(sys.argv[1:]);"
        "sys.exit(' '.join({'airflow', 'dbt', 'httpx', 'kubernetes'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(FAIL)],
        capture_output=True,
        check=False,
        timeout=240,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either a file or --dag-run"),
        (["nowhere.jsonl"], "No such file or directory: 'nowhere.jsonl'"),
        ([FAIL, "--dag-run", "shop", "r1"], "expected either a file or --dag-run"),
        (["--dag-run", "shop", "r1"], "--airflow=None: expected the URL of Airflow"),
        (
            ["--dag-run", "shop", "r1", "--airflow", "airflow.example"],
            "--airflow='airflow.example': expected the URL",
        ),
        ([FAIL, "--airflow", "http://localhost"], "expected --dag-run as well"),
        ([FAIL, "--map-index", "0"], "expected --dag-run as well"),
        ([FAIL, FAIL, "--run-results", "x"], "expected a single log as FILE"),
        ([FAIL, "--manifest", "nowhere.json"], "--manifest='nowhere.json'"),
        ([FAIL, "--compare", "nowhere.jsonl"], "No such file or directory: 'nowhere.jsonl'"),
        ([FAIL, "--html", "/nowhere/report.html"], "No such file or directory: '/nowhere/report.html'"),
    ],
)
def test_what_cannot_be_is_answered_with_what_was_expected(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("dbt-watch report: ")
    assert message in err
    assert err.count("\n") == 1


def test_the_record_of_an_earlier_report_stands_alone(run, tmp_path):
    saved = tmp_path / "before.json"
    saved.write_text(run(FAIL, "--format", "json")[1])
    assert "on its own, since it is complete" in run(saved, FAIL)[2]


# A run of a DAG.


def result(name, **fields):
    fields = {"status": "success", "started_at": START, "finished_at": START, "invocation_id": "i", **fields}
    return NodeResult(unique_id=f"model.shop.{name}", name=name, resource_type="model", **fields)


def journal(*results):
    chunk = Chunk(attempt=1, seq=0, changes=tuple(results))
    # The page after it is missing, as where the triggerer had no time to write it.
    return {part_key(0): encode_page(Page(chunk, will_retry=False))}


class StandIn:
    """A small Airflow: answers for the XComs of one run, in the form of Airflow 3's REST API."""

    def __init__(self, xcoms, tries=None):
        self.xcoms = xcoms
        self.tries = tries or {}
        self.asked = []
        self.status = 200
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, answer = stand_in.answer(self.path, self.headers)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/airflow/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path, headers):
        url, query = (
            urlsplit(path),
            {key: values[0] for key, values in parse_qs(urlsplit(path).query).items()},
        )
        self.asked.append(headers["Authorization"])
        prefix = "/airflow/api/v2/dags/shop/dagRuns/manual__1%2B00%3A00/taskInstances/"
        if self.status != 200:
            return self.status, {"detail": "no"}
        if url.path == prefix.rstrip("/"):
            return 200, self.instances(int(query["offset"]))
        assert url.path.startswith(prefix), url.path
        task_id, _, key = unquote(url.path.removeprefix(prefix)).partition("/xcomEntries")
        if task_id == "~":
            # No more than two at once, whatever the limit.
            found = [
                {"task_id": task, "map_index": index, "key": key}
                for task, index, key in sorted(self.xcoms)
                if key == query["xcom_key"]
            ]
            first = int(query["offset"])
            return 200, {"xcom_entries": found[first : first + 2], "total_entries": len(found)}
        value = self.xcoms.get((task_id, int(query["map_index"]), key.removeprefix("/")))
        return (404, {"detail": "not found"}) if value is None else (200, {"key": key, "value": value})

    def instances(self, first):
        def at(second):
            return (
                None
                if second is None
                else (START + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")
            )

        found = [
            {
                "task_id": task,
                "map_index": -1,
                "try_number": number,
                "start_date": at(began),
                "end_date": at(ended),
            }
            for task, (number, began, ended) in sorted(self.tries.items())
        ]
        return {"task_instances": found[first : first + 2], "total_entries": len(found)}


@pytest.fixture
def airflow():
    """Return a function that starts a stand-in for Airflow with some XComs, by task, map index and key."""
    started = []

    def start(xcoms, tries=None):
        started.append(StandIn(xcoms, tries))
        return started[-1]

    yield start
    for stand_in in started:
        stand_in.close()


def of_dag_run(run, stand_in, *arguments):
    return run(
        "--dag-run", "shop", "manual__1+00:00", "--airflow", stand_in.url, "--format", "json", *arguments
    )


def test_a_run_of_a_dag_is_read_from_the_journals_of_its_producers(run, airflow, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "t0ken")
    xcoms = {
        (task, -1, key): value
        for task, results in {
            "build.dbt_build": [result("a"), result("b", status="error", message="no")],
            "build.heavy.dbt_build": [result("heavy", invocation_id="j")],
            "build.more.dbt_build": [result("more", invocation_id="k")],
        }.items()
        for key, value in journal(*results).items()
    }
    stand_in = airflow({**xcoms, ("build.a", -1, "return_value"): xcom_value([result("a")])})
    status, out, err = of_dag_run(run, stand_in)
    assert (status, err) == (0, "")
    record = record_in(out)
    assert {node.name: node.state for node in record.nodes} == {
        "a": "success",
        "b": "error",
        "heavy": "success",
        "more": "success",
    }
    assert sorted(command.label for command in record.commands) == [
        "build.dbt_build",
        "build.heavy.dbt_build",
        "build.more.dbt_build",
    ]
    assert set(stand_in.asked) == {"Bearer t0ken"}
    assert any("no end" in note for note in record.notes)


def test_where_the_journal_is_gone_the_tasks_of_nodes_tell_and_the_report_says_so(run, airflow):
    stand_in = airflow({
        ("build.a", -1, "return_value"): json.dumps(xcom_value([result("a")])),
        ("build.a.test", -1, "return_value"): xcom_value([result("b", status="error"), result("c")]),
        ("land_orders", -1, "return_value"): "batch-1",
        ("count", -1, "return_value"): 3,
    })  # fmt: skip
    record = record_in(of_dag_run(run, stand_in)[1])
    assert {node.name for node in record.nodes} == {"a", "b", "c"}
    assert record.outcome == "failure"
    assert "the journal of the producer is gone" in record.notes[0]


def test_one_of_several_projects_or_instances_is_asked_for(run, airflow):
    stand_in = airflow({
        (task, index, key): value
        for task, index, name in (("build.dbt_build", 0, "a"), ("build.dbt_build", 1, "b"), ("other.dbt_build", -1, "c"))
        for key, value in journal(result(name)).items()
    })  # fmt: skip
    status, _, err = of_dag_run(run, stand_in)
    assert (status, "--map-index=None: expected one of 0, 1: the project is mapped" in err) == (2, True)
    for arguments, name in ((["--project", "other"], "c"), (["--project", "build", "--map-index", "1"], "b")):
        assert [node.name for node in record_in(of_dag_run(run, stand_in, *arguments)[1]).nodes] == [name]


def test_several_projects_of_a_run_are_not_taken_for_one(run, airflow):
    xcoms = {}
    for task, group in (
        ("build.dbt_build", "build"),
        ("build.dbt_build_2", "build"),
        ("mart.other.dbt_build", "mart.other"),
    ):
        told = pack_outline(Outline(group, "shop", (), ()), 1)
        for key, value in (*journal(result(task.replace(".", "_"))).items(), *told):
            xcoms[task, -1, key] = value
    stand_in = airflow(xcoms)
    status, _, err = of_dag_run(run, stand_in)
    assert status == 2
    assert "--project=None: expected one of build, mart.other: the DAG has several projects" in err
    assert len(record_in(of_dag_run(run, stand_in, "--project", "build")[1]).nodes) == 2
    one = airflow({key: value for key, value in xcoms.items() if key[0].startswith("build.")})
    assert len(record_in(of_dag_run(run, one)[1]).nodes) == 2


def test_a_run_without_dbt_is_refused(run, airflow):
    status, out, err = of_dag_run(run, airflow({("count", -1, "return_value"): 3}))
    assert (status, out) == (2, "")
    assert "expected a DAG run in which dbt has run" in err


@pytest.mark.parametrize(
    ("code", "message"), [(401, TOKEN_VARIABLE), (403, TOKEN_VARIABLE), (404, "404"), (500, "500")]
)
def test_what_airflow_refuses_is_said(run, airflow, code, message):
    stand_in = airflow({})
    stand_in.status = code
    status, _, err = of_dag_run(run, stand_in)
    assert status == 2
    assert message in err


def test_an_airflow_that_does_not_answer_is_named(run, airflow):
    stand_in = airflow({})
    stand_in.close()
    status, _, err = of_dag_run(run, stand_in)
    assert status == 2
    assert "does not respond" in err
    stand_in.close = lambda: None


def closed_journal(end, *results, attempt=1):
    """Return the journal of an attempt that has ended."""
    page = Page(Chunk(attempt=attempt, seq=0, changes=results, closed=end), will_retry=False)
    return {
        part_key(0): encode_page(Page(Chunk(attempt=attempt, seq=-1), will_retry=False)),
        "journal_page_00": encode_page(page),
    }


def test_of_a_run_that_was_retried_the_nodes_of_the_first_attempt_are_told_too(run, airflow):
    later = {"attempt": 2, "invocation_id": "j", "started_at": START + timedelta(seconds=60)}
    journal = closed_journal(Closed(0), result("b", **later), attempt=2)
    stand_in = airflow(
        {
            **{("build.dbt_build", -1, key): value for key, value in journal.items()},
            ("build.a", -1, "return_value"): json.dumps(xcom_value([result("a")])),
            ("build.b", -1, "return_value"): xcom_value([result("b", **later)]),
        },
        {"build.dbt_build": (2, 50, 90), "build.a": (1, 0, 10), "build.b": (1, 0, 80)},
    )
    record = record_in(of_dag_run(run, stand_in)[1])
    assert {node.name: (node.state, node.attempt) for node in record.nodes} == {
        "a": ("success", 1),
        "b": ("success", 2),
    }
    assert [command.label for command in record.commands] == ["attempt 1", "attempt 2"]
    assert record.outcome == "success"


@pytest.mark.parametrize(("is_all_well", "outcome"), [(True, "success"), (False, "failure")])
def test_a_node_that_was_cleared_alone_and_built_again_is_told_as_it_is_now(
    run, airflow, is_all_well, outcome
):
    bad = [result("a", status="error", message="no")]
    bad += [] if is_all_well else [result("c", status="error", message="no")]
    again = result("a", finished_at=START + timedelta(seconds=300), invocation_id="alone")
    stand_in = airflow(
        {
            **{("build.dbt_build", -1, key): value for key, value in closed_journal(Closed(1), *bad).items()},
            ("build.a", -1, "return_value"): json.dumps(xcom_value([again])),
            ("build.b", -1, "return_value"): {"not": "read"},
        },
        {"build.dbt_build": (1, 0, 90), "build.a": (2, 200, 301), "build.b": (1, 0, 95)},
    )
    record = record_in(of_dag_run(run, stand_in)[1])
    assert {node.name: node.state for node in record.nodes}["a"] == "success"
    assert "built again on their own, after the dbt run: a" in record.notes
    assert record.outcome == outcome
    assert bool(record.causes) is not is_all_well


def test_the_worst_end_of_several_pods_is_that_of_the_run(run, airflow):
    def closed(end, **fields):
        page = Page(Chunk(attempt=1, seq=0, changes=(result(**fields),), closed=end), will_retry=False)
        return {
            part_key(0): encode_page(Page(Chunk(attempt=1, seq=-1), will_retry=False)),
            "journal_page_00": encode_page(page),
        }

    journals = {
        "build.dbt_build": closed(Closed(None, "OOMKilled"), name="a"),
        "build.heavy.dbt_build": closed(Closed(0), name="heavy", invocation_id="j"),
    }
    stand_in = airflow(
        {(task, -1, key): value for task, values in journals.items() for key, value in values.items()}
    )
    record = record_in(of_dag_run(run, stand_in)[1])
    assert (record.outcome, record.causes[-1].message) == ("error", "OOMKilled")


def test_the_end_of_a_journal_is_the_end_of_the_run(run, airflow):
    chunk = Chunk(attempt=1, seq=0, changes=(result("a"),), closed=Closed(0))
    values = {
        ("build.dbt_build", -1, part_key(0)): encode_page(Page(Chunk(attempt=1, seq=-1), will_retry=False))
    }
    values["build.dbt_build", -1, "journal_page_00"] = encode_page(Page(chunk, will_retry=False))
    assert record_in(of_dag_run(run, airflow(values))[1]).outcome == "success"
