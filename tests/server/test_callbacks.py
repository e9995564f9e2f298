"""Where callbacks may go."""

import http.server
import json
import threading

import pytest

from dbt_watch.exceptions import ArgumentError
from dbt_watch.server.callbacks import call_back, check_callback
from dbt_watch.server.settings import CallbackSettings

ALLOWED = CallbackSettings(hosts=("airflow.example", "other.example:8443"))


@pytest.mark.parametrize(
    "url", ["https://airflow.example/x?y=1", "https://airflow.example:443/", "https://other.example:8443/"]
)
def test_a_host_that_is_listed_may_be_called(url):
    check_callback(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "http://airflow.example/", "https://evil.example/", "https://airflow.example:22/", "https://other.example/",
        "https://airflow.example@evil.example/", "https://x@airflow.example/", "https://evil.example\\@airflow.example/",
        "https://airflow.example.evil.example/", "file:///etc/passwd", "ftp://airflow.example/", "//airflow.example/", "",
        "https://[::1]/", "https://127.0.0.1/", "https://airflow.example:x/", "https://airflow.example/\r\nX: y", "https://[/",
    ],
)  # fmt: skip
def test_any_other_address_is_refused(url):
    with pytest.raises(ArgumentError):
        check_callback(url, ALLOWED)
    with pytest.raises(ArgumentError, match="to be left out"):
        check_callback(url, CallbackSettings())


class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.heard.append(
            (self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        )
        self.send_response(302 if self.path == "/moved" else 204)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self):
        self.do_POST()

    def log_message(self, *_):
        pass


@pytest.fixture
def listener():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        server.heard = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_client_hears_how_its_invocation_ended(desk_with, listener):
    desk = desk_with(callbacks={"hosts": [f"127.0.0.1:{listener.server_port}"], "http": True})
    url = f"http://127.0.0.1:{listener.server_port}/done"
    for task_id in ("one", "two"):
        assert desk.post(["build"], task_id, callback_url=url).status_code == 200
    desk.client.post("/invocations/two/abort")
    desk.runner.work()
    assert listener.heard == [
        ("/done", {"task_id": "two", "status": "ABORTED"}), ("/done", {"task_id": "one", "status": "SUCCESS"}),
    ]  # fmt: skip


def test_a_redirect_is_not_followed(listener):
    assert not call_back(f"http://127.0.0.1:{listener.server_port}/moved", "one", "SUCCESS")
    assert {path for path, _ in listener.heard} == {"/moved"}
