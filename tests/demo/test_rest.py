"""The REST client, against a server that answers as SQLite makes Airflow answer."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dbt_watch.local.airflow import rest
from dbt_watch.local.airflow.rest import AirflowClient, RestError
from dbt_watch.local.airflow.settings import Login


@pytest.fixture
def serve(monkeypatch):
    """Serve some answers, one after the other, and give a client and the requests that came."""
    monkeypatch.setattr(rest, "_PAUSES_S", (0.0, 0.0, 0.0))
    servers = []

    def serve(*answers):
        came = []
        waiting = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.answer(201, '{"access_token": "t"}')

            def do_GET(self):
                came.append(self.path)
                self.answer(*waiting.pop(0))

            def answer(self, status, text):
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_): ...

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return AirflowClient(f"http://127.0.0.1:{server.server_port}", Login()), came

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


LOCKED = (500, '{"detail": {"reason": "Database error"}}')


def test_a_locked_database_is_asked_again(serve):
    client, came = serve(LOCKED, LOCKED, (200, '{"a": 1}'))
    assert client.get("x") == {"a": 1}
    assert len(came) == 3


def test_a_database_that_stays_locked_is_told(serve):
    client, came = serve(LOCKED, LOCKED, LOCKED)
    with pytest.raises(RestError, match="Database error"):
        client.get("x")
    assert len(came) == 3


def test_any_other_refusal_is_told_at_once(serve):
    client, came = serve((500, "broken"), (200, "{}"))
    with pytest.raises(RestError, match="broken"):
        client.get("x")
    assert len(came) == 1


@pytest.mark.parametrize(
    ("last_line", "is_told"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: '/home/dags/shop.py'", False),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/home/dags/manifest.json'", True),
        ("SyntaxError: invalid syntax", True),
    ],
)
def test_a_dag_file_that_was_taken_away_is_no_import_error(serve, last_line, is_told):
    trace = f"Traceback (most recent call last):\n  File ...\n{last_line}\n"
    told = {"import_errors": [{"filename": "shop.py", "stack_trace": trace}]}
    client, _ = serve((200, json.dumps(told)))
    assert client.import_errors() == ([trace] if is_told else [])
