"""
A server of dbt that runs none: it answers as the one of this library, as one in the field, or as one that gives no log.

What becomes of its invocations is told by a test. It can be told to answer otherwise for a while, too.
"""

import base64
import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

OPEN = {"PENDING", "STARTED"}
NONE = 404, {}, {"detail": "Not Found"}


class StandInServer:
    """
    Such a server.

    :ivar dialect: "own", "field" or "silent"
    :ivar invocations: what was posted, by task_id; a test changes the state, the log, the artifacts
    :ivar requests: what was asked: method, path and query, headers in lower case, body
    :ivar instead: what is answered next, whatever is asked: for each a function of the handler that answers, or None
    :ivar begins_as: the state of an invocation that was posted
    :ivar own_ids: give invocations ids of its own, as an old server does
    :ivar lists: whether it has a list of invocations
    :ivar waits: whether it waits for more of a log as long as it is asked to
    """

    def __init__(self, dialect="own"):
        self.dialect = dialect
        self.invocations = {}
        self.requests = []
        self.instead = []
        self.begins_as = "STARTED"
        self.own_ids = False
        self.lists = True
        self.waits = True
        self.authorizations = None
        self.on_post = lambda invocation: None
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def asked(self, method=None):
        return [request[1] for request in self.requests if method in {None, request[0]}]

    def add(self, task_id, state="STARTED", **more):
        """Have an invocation, as if it had been posted."""
        self.invocations[task_id] = {
            "task_id": task_id, "state": state, "log": "", "artifacts": {}, "created_at": time.time(), "body": None, **more,
        }  # fmt: skip
        return self.invocations[task_id]

    @property
    def only(self):
        """The only invocation."""
        (invocation,) = self.invocations.values()
        return invocation

    # The answers.

    def answer(self, method, path, query, body):
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts == ["invocations"]:
            return self.post(body) if method == "POST" else self.listed(query)
        found = self.invocations.get(parts[1])
        if len(parts) == 2:
            return 200, {}, self.told(found) if found else {"task_id": parts[1], "state": "NOT_FOUND"}
        return self.answer_of(found, parts[2:], query) if found else NONE

    def answer_of(self, found, parts, query):
        what = parts[0]
        if what == "abort":
            found["abort_requested"] = True
            if found["state"] in OPEN:
                found["state"] = "ABORTED"
            return 200, {}, self.told(found)
        if what == "log" and self.dialect == "own":
            return self.log_part(found, query)
        if what == "artifacts" and self.dialect != "field" and parts[1] in found["artifacts"]:
            return 200, {}, found["artifacts"][parts[1]]
        return NONE

    def post(self, body):
        task_id = f"own-{len(self.invocations)}" if self.own_ids else body["task_id"]
        found = self.invocations.get(task_id)
        if found is not None and found["body"] != body:
            return 409, {}, {"status_code": 409, "message": "another invocation has this task_id"}
        if found is None:
            found = self.add(task_id, self.begins_as, body=body)
            self.on_post(found)
        told = {"task_id": task_id, "log_path": "/var/log"}
        return 200, {}, told | ({"state": found["state"]} if self.dialect == "own" else {})

    def listed(self, query):
        if not self.lists:
            return 405, {}, {"detail": "Method Not Allowed"}
        wanted = [each for each in self.invocations.values() if each["state"] in query.get("state", [])]
        told = [self.told(each) for each in reversed(wanted)]
        return 200, {}, {"invocations": told} if self.dialect == "own" else told

    def told(self, found):
        told = {
            name: found[name] for name in ("task_id", "state", "exc_type", "exc_message") if name in found
        }
        if self.dialect == "own":
            told |= {
                name: found[name] for name in ("exit_code", "created_at", "abort_requested") if name in found
            }
        if self.dialect == "field":
            told["log_content"] = found["log"]
        return told

    def log_part(self, found, query):
        deadline = time.monotonic() + float(query["wait"][0]) * self.waits
        while int(query["offset"][0]) >= len(found["log"].encode()) and found["state"] in OPEN:
            if time.monotonic() >= deadline:
                break
            time.sleep(0.005)
        has_ended, log = found["state"] not in OPEN, found["log"].encode()
        start = min(int(query["offset"][0]), len(log))
        piece = log[start : start + int(query["limit"][0])]
        following = start + len(piece)
        is_complete = has_ended and following == len(log)
        return 200, {"X-Log-Offset": str(following), "X-Log-Complete": str(is_complete).lower()}, piece


def handler_for(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.handle_any("GET")

        def do_POST(self):
            self.handle_any("POST")

        def handle_any(self, method):
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            is_json = headers.get("content-type") == "application/json"
            body = json.loads(content) if is_json else content.decode()
            server.requests.append((method, self.path, headers, body))
            instead = server.instead.pop(0) if server.instead else None
            if instead is not None:
                instead(self)
                return
            allowed = server.authorizations
            if allowed is not None and headers.get("authorization") not in allowed:
                self.say(401, {}, {"status_code": 401, "message": "a valid token is required"})
                return
            self.say(*server.answer(method, parts.path, parse_qs(parts.query), body))

        def say(self, status, headers, body):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    return Handler


# What may be answered instead.


def says(status, body=b"", **headers):
    """Answer so."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.say(status, named, body)


def hangs_up(handler):
    """Close the connection without an answer."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(2)


def takes_and_hangs_up(server):
    """Do what is asked, and close the connection without an answer."""

    def answer(handler):
        method, path, _, body = server.requests[-1]
        parts = urlsplit(path)
        server.answer(method, parts.path, parse_qs(parts.query), body)
        hangs_up(handler)

    return answer


def basic(login, password):
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
