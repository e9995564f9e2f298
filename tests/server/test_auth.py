"""Who may do what."""

import datetime as dt
import http.server
import json
import threading

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from serving import command

from dbt_watch.cli import main
from dbt_watch.exceptions import ArgumentError
from dbt_watch.server.auth import OidcVerifier, Unauthenticated
from dbt_watch.server.settings import OidcSettings, RightSettings, load_settings

ISSUER, AUDIENCE = "https://issuer.example", "dbt-watch"


def status(desk, token, path="/invocations", **headers):
    return desk.client_of(token).get(path, headers=headers).status_code


def test_a_token_is_needed_and_a_wrong_one_is_refused(desk):
    assert status(desk, None) == 401
    head, secret = desk.token[:18], desk.token[18:]
    for wrong in (
        "x",
        "",
        head,
        f"{head}{'A' * 43}",
        f"dbtw_{'0' * 12}_{secret[-43:]}",
        f"{desk.token}x",
        "é",
    ):
        answer = desk.client_of(None).get(
            "/invocations", headers={b"Authorization": f"Bearer {wrong}".encode()}
        )
        assert answer.status_code == 401
        assert "Bearer" in answer.headers["WWW-Authenticate"]
    assert status(desk, desk.token) == 200


def test_basic_authentication_takes_the_name_of_a_token_and_the_token(desk):
    client = desk.client_of(None)
    assert client.get("/invocations", auth=("all", desk.token)).status_code == 200
    for name, password in (("other", desk.token), ("all", "x"), ("", "")):
        assert client.get("/invocations", auth=(name, password)).status_code == 401
    assert client.get("/invocations", headers={"Authorization": "Basic é"[:6] + "!!"}).status_code == 401


def test_an_expired_and_a_revoked_token_are_refused(desk):
    expired, revoked = desk.tokens.make("expired", days=-1), desk.tokens.make("revoked")
    assert status(desk, revoked) == 200
    desk.tokens.revoke("revoked")
    assert (status(desk, expired), status(desk, revoked)) == (401, 401)


def test_what_is_kept_of_a_token_is_a_hash(desk):
    content = b"".join(path.read_bytes() for path in desk.settings.state_dir.glob("server.db*"))
    assert desk.token[18:].encode() not in content
    assert b"all" in content


def test_a_token_for_one_project_sees_nothing_of_another(desk_with):
    desk = desk_with(projects=("shop", "bank"))
    desk.post(command(say="private"), "one", project_dir="shop")
    desk.runner.work()
    foreign = desk.client_of(desk.tokens.make("bank", projects=["bank"]))
    assert foreign.get("/invocations/one").json() == {"task_id": "one", "state": "NOT_FOUND"}
    assert foreign.get("/invocations").json()["invocations"] == []
    assert [one["name"] for one in foreign.get("/projects").json()["projects"]] == ["bank"]
    for path in ("log", "artifacts", "artifacts/run_results.json"):
        assert foreign.get(f"/invocations/one/{path}").status_code == 404
    assert foreign.post("/invocations/one/abort").status_code == 404
    assert desk.post(["build"], client=foreign, project_dir="shop").status_code == 422
    # It needs not say which, since there is only one for it.
    assert desk.post(["build"], client=foreign).status_code == 200


def test_a_token_for_one_command_runs_and_ends_nothing_else(desk):
    narrow = desk.client_of(desk.tokens.make("narrow", commands=["ls"]))
    assert desk.post(["build"], client=narrow).status_code == 403
    assert desk.post(["ls"], client=narrow).status_code == 200
    desk.post(["build"], "one")
    assert narrow.post("/invocations/one/abort").status_code == 403


def test_without_authentication_a_server_listens_on_loopback_only(desk_with):
    desk = desk_with(auth="none")
    with pytest.raises(ArgumentError, match="reached from other machines"):
        load_settings(desk.config, host="192.0.2.1")
    client = desk.client_of(None)
    assert client.get("/invocations", headers={"Host": "localhost:8580"}).status_code == 200
    assert client.get("/invocations", headers={"Host": "evil.example"}).status_code == 400


def command_line(desk, capsys, *words):
    assert main(["server", "--config", str(desk.config), "token", *words]) in {0, 2}
    return capsys.readouterr()


def test_tokens_are_made_listed_and_revoked_on_the_command_line(desk, capsys):
    token = command_line(
        desk, capsys, "make", "narrow", "--project", "shop", "--command", "ls", "--command", "source freshness", "--days", "1"
    ).out.strip()  # fmt: skip
    narrow = desk.client_of(token)
    assert narrow.get("/projects").json()["projects"][0]["commands"] == ["ls", "source freshness"]
    command_line(desk, capsys, "make", "wide")
    listed = command_line(desk, capsys, "list").out
    assert token[18:] not in listed
    rows = [line.split("\t") for line in listed.splitlines()]
    assert [row[:2] for row in rows] == [["all", "valid"], ["narrow", "valid"], ["wide", "valid"]]
    assert rows[1][3:] == ["shop", "ls,source freshness"]
    assert rows[2][2:] == ["expires never", "all projects", "all commands"]
    command_line(desk, capsys, "revoke", "narrow")
    assert narrow.get("/projects").status_code == 401
    assert "narrow\trevoked" in command_line(desk, capsys, "list").out


@pytest.mark.parametrize(
    "words", [("make", "x", "--project", "no"), ("make", "x", "--command", "rm"), ("make", "all"), ("make", "a b"), ("revoke", "no")]
)  # fmt: skip
def test_a_token_that_cannot_be_made_or_revoked_is_told(desk, capsys, words):
    said = command_line(desk, capsys, *words)
    assert said.out == ""
    assert said.err
    assert [token.name for token in desk.tokens.all()] == ["all"]


def settings(**more):
    rights = (RightSettings(claim="groups", value="data", projects=("shop",), commands=("build",)),)
    return OidcSettings(
        issuer=ISSUER, audience=AUDIENCE, jwks_url="https://issuer.example/keys", rights=rights, **more
    )


class Issuer:
    """An issuer of tokens, without a network."""

    def __init__(self):
        self.keys = {"a": rsa.generate_private_key(65537, 2048)}
        self.reads = 0

    def fetch(self, _url):
        self.reads += 1
        keys = {
            kid: json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
            for kid, key in self.keys.items()
        }
        return {"keys": [{**key, "kid": kid, "alg": "RS256", "use": "sig"} for kid, key in keys.items()]}

    def token(self, kid="a", key=None, algorithm="RS256", **claims):
        soon = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=5)
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": soon, "sub": "ada", "groups": ["data"]} | claims
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key or self.keys[kid], algorithm, headers={"kid": kid})


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


def test_a_token_of_the_issuer_gives_the_rights_of_its_claims(issuer):
    principal = OidcVerifier(settings(), issuer.fetch)(issuer.token())
    assert (principal.name, principal.projects, principal.commands) == ("oidc:ada", ("shop",), ("build",))


def test_a_token_that_is_expired_foreign_or_forged_is_refused(issuer):
    verify = OidcVerifier(settings(), issuer.fetch)
    past = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    wrong = [
        issuer.token(exp=past), issuer.token(exp=None), issuer.token(aud="other"), issuer.token(aud=None),
        issuer.token(iss="https://evil.example"), issuer.token(groups=["others"]), issuer.token(groups=None),
        issuer.token(key=rsa.generate_private_key(65537, 2048)),
        issuer.token(key=ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"),
        issuer.token(key="a secret that is long enough for this", algorithm="HS256"),
        jwt.encode({"iss": ISSUER, "aud": AUDIENCE}, None, algorithm="none"), "x.y.z", "x",
    ]  # fmt: skip
    for token in wrong:
        with pytest.raises(Unauthenticated):
            verify(token)


def test_the_keys_are_read_again_for_a_new_one_and_not_for_every_unknown_one(issuer, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("dbt_watch.server.auth.time.monotonic", lambda: now[0])
    issuer.reads = 0
    verify = OidcVerifier(settings(), issuer.fetch)
    verify(issuer.token())
    token = issuer.token(kid="b", key=rsa.generate_private_key(65537, 2048))
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            verify(token)
    assert issuer.reads == 1
    issuer.keys["b"] = rsa.generate_private_key(65537, 2048)
    now[0] += 11
    assert verify(issuer.token(kid="b")).name == "oidc:ada"
    assert issuer.reads == 2


class Keys(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(self.server.issuer.fetch(self.path)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_the_api_accepts_a_token_of_the_issuer_whose_keys_it_reads(desk_with, issuer):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        server.issuer = issuer
        threading.Thread(target=server.serve_forever, daemon=True).start()
        desk = desk_with(
            projects=("shop", "bank"),
            oidc={
                "issuer": ISSUER,
                "audience": AUDIENCE,
                "jwks_url": f"http://127.0.0.1:{server.server_port}/keys",
                "rights": [{"claim": "groups", "value": "data", "projects": ["shop"], "commands": ["build"]}],
            },
        )
        bearer = desk.client_of(issuer.token())
        assert desk.post(["build"], "one", client=bearer).status_code == 200
        assert bearer.get("/invocations/one").json()["principal"] == "oidc:ada"
        assert desk.post(["ls"], client=bearer).status_code == 403
        assert desk.post(["build"], client=bearer, project_dir="bank").status_code == 422
        past = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
        for wrong in (issuer.token(exp=past), issuer.token(aud="other"), issuer.token(groups=["others"])):
            assert status(desk, wrong) == 401
        # The server's own tokens are accepted besides.
        assert status(desk, desk.token) == 200
        server.shutdown()


def test_keys_that_cannot_be_read_are_no_reason_to_believe_anyone(issuer):
    def fail(_url):
        raise OSError

    with pytest.raises(Unauthenticated):
        OidcVerifier(settings(), fail)(issuer.token())
