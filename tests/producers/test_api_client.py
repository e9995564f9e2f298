"""What is said to a server of dbt over HTTP, with servers that hang up, refuse, are full, or answer with what is none of theirs."""

import asyncio
import json
import ssl
import threading
import time

import pytest
import trustme
from airflow.sdk import Connection
from api_pace import hurry, soon_given_up
from api_server import StandInServer, basic, hangs_up, says, takes_and_hangs_up

from dbt_watch.exceptions import ServerError
from dbt_watch.producers.api import client as module
from dbt_watch.producers.api.client import TriggererClient, WorkerClient, abort_now
from dbt_watch.producers.api.protocol import LogPart

COMMAND = ["build", "--select", "orders"]
SECRET = "pa55-of-the-server"  # noqa: S105 - no real one


@pytest.fixture
def server():
    with StandInServer() as server:
        yield server


@pytest.fixture
def connections(monkeypatch):
    """What Airflow has under each id; a test changes it."""
    hurry(monkeypatch)
    connections = {}

    def get(_, conn_id):
        extra, fields = connections[conn_id]
        return Connection(conn_id=conn_id, conn_type="http", extra=json.dumps(extra), **fields)

    async def aget(_, conn_id):
        return get(_, conn_id)

    monkeypatch.setattr(module.BaseHook, "get_connection", classmethod(get))
    monkeypatch.setattr(module.BaseHook, "aget_connection", classmethod(aget))
    return connections


class InTriggerer:
    """A client of a triggerer, for a test that is not asynchronous."""

    def __init__(self, conn_id):
        self.conn_id = conn_id

    def ask(self, name, *args):
        async def ask():
            async with TriggererClient(self.conn_id) as client:
                return await client.run(getattr(client.server, name)(*args))

        return asyncio.run(ask())


class OnWorker:
    def __init__(self, conn_id):
        self.client = WorkerClient(conn_id, on_tick=lambda: None)

    def ask(self, name, *args):
        return self.client.run(getattr(self.client.server, name)(*args))


@pytest.fixture(params=[OnWorker, InTriggerer])
def client_of(request, server, connections):
    def make(extra=None, **fields):
        connections["dbt_api"] = (extra or {}, {"host": server.url, **fields})
        return request.param("dbt_api")

    return make


def test_an_invocation_is_posted_with_its_id_and_looked_at(client_of, server):
    client = client_of()
    posted = client.ask("post", COMMAND, "nightly-1", "shop")
    assert (posted.task_id, posted.state) == ("nightly-1", "STARTED")
    assert server.only["body"] == {"command": COMMAND, "task_id": "nightly-1", "project_dir": "shop"}
    assert client.ask("look", "nightly-1").is_open
    assert client.ask("look", "nightly-2").state == "NOT_FOUND"


def test_the_same_request_again_is_no_second_run_and_another_one_is_refused(client_of, server):
    client = client_of()
    client.ask("post", COMMAND, "nightly-1", None)
    server.only["state"] = "SUCCESS"
    assert client.ask("post", COMMAND, "nightly-1", None).state == "SUCCESS"
    with pytest.raises(ServerError, match="HTTP 409: another invocation has this task_id") as caught:
        client.ask("post", ["run"], "nightly-1", None)
    assert caught.value.status == 409
    assert len(server.invocations) == 1


def test_a_server_may_have_ids_of_its_own(client_of, server):
    server.own_ids = True
    assert client_of().ask("post", COMMAND, "nightly-1", None).task_id == "own-0"


def test_a_post_without_an_answer_is_not_repeated_before_it_is_asked_what_became_of_it(client_of, server):
    server.instead = [takes_and_hangs_up(server)]
    assert client_of().ask("post", COMMAND, "nightly-1", None).state == "STARTED"
    assert server.asked() == ["/invocations", "/invocations/nightly-1"]


@pytest.mark.parametrize(
    "fault",
    [
        hangs_up,
        says(503, Retry_After="0"),
        says(500),
        says(502, b"<html>Bad Gateway</html>"),
        says(200, b"<html>"),
    ],
)
def test_a_post_that_did_not_arrive_is_repeated(client_of, server, fault):
    server.instead = [fault]
    assert client_of().ask("post", COMMAND, "nightly-1", None).state == "STARTED"
    assert server.asked() == ["/invocations", "/invocations/nightly-1", "/invocations"]
    assert len(server.invocations) == 1


def test_a_server_that_is_full_is_asked_again_and_not_whether_it_has_taken_it(client_of, server):
    server.instead = [says(429, b'{"message": "too many invocations are waiting"}', Retry_After="0")] * 2
    client_of().ask("post", COMMAND, "nightly-1", None)
    assert server.asked() == ["/invocations"] * 3


def test_as_long_as_a_server_says_it_is_waited(client_of, server, monkeypatch):
    monkeypatch.setattr("dbt_watch.producers.api.protocol.POST_PATIENCE", 30.0)
    server.instead = [says(429, Retry_After="60")]
    with pytest.raises(ServerError, match="HTTP 429"):  # longer than the patience of this test
        client_of().ask("post", COMMAND, "nightly-1", None)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (says(422, b'{"message": "command=...: expected a dbt sub-command"}'), "expected a dbt sub-command"),
        (says(413), "HTTP 413"),
        (says(404, b'{"detail": "Not Found"}'), "HTTP 404: Not Found"),
        (says(307, b"", Location="https://dbt.example/invocations?token=pa55"), "redirected to https://dbt.example/invocations;"),
    ],
)  # fmt: skip
def test_what_another_try_would_not_change_is_told_at_once(client_of, server, fault, words):
    server.instead = [fault]
    with pytest.raises(ServerError, match="connection dbt_api") as caught:
        client_of().ask("post", COMMAND, "nightly-1", None)
    assert words in str(caught.value)
    assert "pa55" not in str(caught.value)
    assert len(server.requests) == 1


def test_a_server_that_is_away_fails_a_post_after_a_while(client_of, server, monkeypatch):
    soon_given_up(monkeypatch, "POST_PATIENCE")
    client = client_of()
    server.__exit__()
    with pytest.raises(ServerError, match="Connect"):
        client.ask("post", COMMAND, "nightly-1", None)


@pytest.mark.parametrize("fault", [says(500), says(200, b"[]"), says(200, b'{"state": "LATER"}'), hangs_up])
def test_a_state_that_cannot_be_read_is_asked_for_again(client_of, server, fault):
    server.add("nightly-1")
    server.instead = [fault] * 3
    assert client_of().ask("look", "nightly-1").state == "STARTED"


def test_a_state_of_no_contract_is_not_waited_for_without_end(client_of, server):
    server.add("nightly-1", "RETRYING")
    with pytest.raises(ServerError, match="which is not an invocation in a known state"):
        client_of().ask("look", "nightly-1", 0.2)


def test_the_log_is_read_by_its_offset(client_of, server):
    server.add("nightly-1")["log"] = "one\ntwo\n"
    client = client_of()
    part = client.ask("log_part", "nightly-1", 4)
    assert part._replace(was_awaited=False) == LogPart(b"two\n", 8, is_complete=False)
    server.only["state"] = "SUCCESS"
    part = client.ask("log_part", "nightly-1", 8)
    assert part._replace(was_awaited=False) == LogPart(b"", 8, is_complete=True)
    server.dialect = "field"
    assert client.ask("log_part", "nightly-1", 0) is None


def test_artifacts_are_read_where_there_are_any(client_of, server):
    server.add("nightly-1")["artifacts"] = {"run_results.json": {"results": []}}
    client = client_of()
    assert json.loads(client.ask("artifact", "nightly-1", "run_results.json")) == {"results": []}
    assert client.ask("artifact", "nightly-1", "sources.json") is None


@pytest.mark.parametrize("dialect", ["own", "field"])
def test_what_waits_or_runs_is_listed(client_of, server, dialect):
    server.dialect = dialect
    for number, state in enumerate(["PENDING", "STARTED", "SUCCESS"]):
        server.add(f"nightly-{number}", state)
    client = client_of()
    assert [each.task_id for each in client.ask("open_invocations")] == ["nightly-1", "nightly-0"]
    server.lists = False
    assert client.ask("open_invocations") is None


# Signing in.


@pytest.mark.parametrize(
    ("extra", "fields", "authorization"),
    [
        ({}, {"login": "airflow", "password": SECRET}, basic("airflow", SECRET)),
        ({"bearer_token": SECRET}, {}, f"Bearer {SECRET}"),
        ({"headers": {"Authorization": f"ApiKey {SECRET}", "X-Team": "data"}}, {}, f"ApiKey {SECRET}"),
    ],
)
def test_the_ways_to_sign_in(client_of, server, extra, fields, authorization):
    server.authorizations = {authorization}
    client_of(extra, **fields).ask("post", COMMAND, "nightly-1", None)
    headers = server.requests[0][2]
    assert headers["authorization"] == authorization
    assert headers.get("x-team") == extra.get("headers", {}).get("X-Team")


@pytest.fixture
def credentials_soon_given_up(connections, monkeypatch):
    soon_given_up(monkeypatch, "CREDENTIALS_PATIENCE")


@pytest.mark.usefixtures("credentials_soon_given_up")
@pytest.mark.parametrize("token", ["expired", "of-another-server", "nonsense"])
def test_a_token_that_is_not_valid_fails_after_a_while_and_is_not_shown(client_of, server, caplog, token):
    server.authorizations = {"Bearer valid"}
    with pytest.raises(ServerError, match="HTTP 401: a valid token is required") as caught:
        client_of({"token": f"{token}-{SECRET}"}).ask("post", COMMAND, "nightly-1", None)
    assert SECRET not in str(caught.value) + caplog.text
    assert len(server.requests) > 1
    assert not server.invocations


def test_a_token_that_is_renewed_in_the_connection_is_used_in_mid_run(client_of, server, connections):
    server.authorizations = {"Bearer t0ken-1"}
    client = client_of({"token": "t0ken-1"})
    client.ask("post", COMMAND, "nightly-1", None)
    server.authorizations = {"Bearer t0ken-2"}
    connections["dbt_api"][0]["token"] = "t0ken-2"  # noqa: S105
    assert client.ask("look", "nightly-1").state == "STARTED"


class Issuer(StandInServer):
    """Gives tokens, each another one."""

    def __init__(self):
        super().__init__()
        self.given = 0
        self.lifetime = 3600

    def answer(self, method, path, query, body):
        if path != "/token":
            return super().answer(method, path, query, body)
        self.given += 1
        return (
            200,
            {},
            {"access_token": f"token-{self.given}", "token_type": "Bearer", "expires_in": self.lifetime},
        )


OAUTH2 = {"client_id": "airflow", "client_secret": SECRET, "scope": "dbt"}


@pytest.fixture
def issuer():
    with Issuer() as issuer:
        yield issuer


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_token_is_got_with_the_credentials_of_a_client_and_used_until_it_is_refused(
    server, issuer, connections, method
):
    server.authorizations = {"Bearer token-1"}
    oauth2 = {**OAUTH2, "token_url": f"{issuer.url}/token", "token_endpoint_auth_method": method}
    connections["dbt_api"] = ({"oauth2": oauth2, "headers": {"X-Team": "data"}}, {"host": server.url})
    client = OnWorker("dbt_api")
    client.ask("post", COMMAND, "nightly-1", None)
    client.ask("look", "nightly-1")
    assert issuer.given == 1
    server.authorizations = {"Bearer token-2"}
    assert client.ask("look", "nightly-1").state == "STARTED"
    assert issuer.given == 2
    _, _, headers, body = issuer.requests[0]
    assert "grant_type=client_credentials" in body
    assert "scope=dbt" in body
    assert (headers.get("authorization") == basic("airflow", SECRET)) is (method == "client_secret_basic")
    assert (SECRET in body) is (method == "client_secret_post")
    assert "x-team" not in headers


def test_a_token_is_renewed_before_it_expires(server, issuer, connections):
    issuer.lifetime = 1
    oauth2 = {**OAUTH2, "token_url": f"{issuer.url}/token"}
    connections["dbt_api"] = ({"oauth2": oauth2}, {"host": server.url})
    client = OnWorker("dbt_api")
    client.ask("look", "nightly-1")
    time.sleep(1.1)
    client.ask("look", "nightly-1")
    assert issuer.given == 2
    assert server.requests[-1][2]["authorization"] == "Bearer token-2"


@pytest.mark.usefixtures("credentials_soon_given_up")
def test_an_issuer_that_refuses_is_quoted_and_the_secret_is_not(client_of, server, issuer, caplog):
    refusal = says(400, json.dumps({"error": "invalid_client", "error_description": "unknown"}).encode())
    issuer.instead = [refusal] * 1_000
    with pytest.raises(ServerError, match=r"no token from .*HTTP 400 invalid_client unknown") as caught:
        client_of({"oauth2": {**OAUTH2, "token_url": f"{issuer.url}/token"}}).ask("look", "nightly-1")
    assert SECRET not in str(caught.value) + caplog.text
    assert not server.requests


def test_a_certificate_that_is_not_to_be_believed_is_no_reason_to_wait(connections, tmp_path):
    ca, other = trustme.CA(), trustme.CA()
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    with StandInServer() as server:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ca.issue_cert("127.0.0.1").configure_cert(context)
        server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
        url = server.url.replace("http://", "https://")
        connections["right"] = ({"ca": str(tmp_path / "ca.pem")}, {"host": url})
        connections["wrong"] = ({"ca": str(tmp_path / "other.pem")}, {"host": url})
        assert OnWorker("right").ask("look", "nightly-1").state == "NOT_FOUND"
        began = time.monotonic()
        with pytest.raises(ServerError, match="CERTIFICATE_VERIFY_FAILED"):
            OnWorker("wrong").ask("look", "nightly-1")
        assert time.monotonic() - began < 30


# Waiting.


def test_a_worker_goes_on_with_other_things_while_a_server_does_not_answer(server, connections):
    released = threading.Event()

    def waits(handler):
        released.wait(60)
        handler.say(200, {}, {"task_id": "nightly-1", "state": "SUCCESS"})

    def tick():
        ticks.append(released.is_set())
        if len(ticks) == 3:
            released.set()

    ticks = []
    server.instead = [waits]
    connections["dbt_api"] = ({}, {"host": server.url})
    client = OnWorker("dbt_api")
    client.client._on_tick = tick
    assert client.ask("look", "nightly-1").state == "SUCCESS"
    assert ticks[:3] == [False, False, False]


def test_what_is_raised_meanwhile_ends_the_asking(server, connections):
    connections["dbt_api"] = ({}, {"host": server.url})
    answered, released = threading.Event(), threading.Event()
    server.instead = [lambda handler: released.wait(60) and answered.set()]
    client = OnWorker("dbt_api")

    def tick():
        raise SystemExit("the supervisor has gone")

    client.client._on_tick = tick
    with pytest.raises(SystemExit):
        client.ask("look", "nightly-1")
    assert not answered.is_set()
    released.set()


def test_an_abort_from_a_signals_handler_takes_no_longer_than_it_may(server, connections):
    connections["dbt_api"] = ({}, {"host": server.url})
    connection = OnWorker("dbt_api").client.connection
    server.add("nightly-1")
    abort_now(connection, "nightly-1", within=60)
    assert server.only["state"] == "ABORTED"
    released = threading.Event()
    server.instead = [lambda handler: released.wait(60)]
    began = time.monotonic()
    abort_now(connection, "nightly-1", within=0.3)
    assert time.monotonic() - began < 30
    released.set()
    # It goes on asking, and would ask the server of a later test that has the same port.
    for thread in threading.enumerate():
        if thread.name == "dbt-watch-abort":
            thread.join(60)


def test_too_large_an_answer_is_not_kept(client_of, server, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    server.add("nightly-1")["log"] = "x" * 1_000
    with pytest.raises(ServerError, match="more than 100 bytes"):
        client_of().ask("log_part", "nightly-1", 0)
