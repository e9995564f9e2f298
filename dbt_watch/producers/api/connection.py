"""
What an Airflow connection says of a server of dbt: where it is, how to sign in, and what to trust.

Host, schema, port, login and password mean what they mean to Airflow's HTTP hook. The rest stands in the extra, where an unknown
name is an error: a misspelt `verfy` must not go unnoticed. No error and no text here ever holds a value that may be secret.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from dbt_watch.exceptions import ArgumentError

DEFAULT_TIMEOUT: Final = 60.0
"""In seconds, for the parts of an answer; a connection is waited for no longer than half of it."""

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
KNOWN_EXTRAS: Final = (
    "bearer_token", "ca", "cert", "headers", "oauth2", "prefix", "proxy", "timeout", "token", "verify",
)  # fmt: skip
_OAUTH2: Final = (
    "audience",
    "client_id",
    "client_secret",
    "scope",
    "token_endpoint_auth_method",
    "token_url",
)


class OAuth2(msgspec.Struct, frozen=True, kw_only=True):
    """
    How to get a token by the grant of client credentials.

    :param token_url: where
    :param client_id: whose
    :param client_secret: with which
    :param scope: for what
    :param audience: for whom, where the issuer wants to know that
    :param auth_method: how the secret is sent: "client_secret_basic" or "client_secret_post"
    """

    token_url: str
    client_id: str
    client_secret: str
    scope: str | None = None
    audience: str | None = None
    auth_method: str = "client_secret_basic"


class ApiConnection(msgspec.Struct, frozen=True, kw_only=True):
    """
    A connection, read.

    :param conn_id: its id
    :param base_url: where the server is
    :param login: for basic authentication
    :param password: likewise
    :param token: a bearer token
    :param oauth2: how to get one
    :param headers: sent with each request
    :param verify: whether the server's certificate is checked
    :param ca: a file of certificates to check it with
    :param cert: a file of our own certificate; beside it that of its key, and the password of that
    :param proxy: the address of a proxy
    :param timeout: in seconds
    :param prefix: what tells this Airflow from others that use the same server
    """

    conn_id: str
    base_url: str
    login: str | None = None
    password: str | None = None
    token: str | None = None
    oauth2: OAuth2 | None = None
    headers: Mapping[str, str] = {}
    verify: bool = True
    ca: str | None = None
    cert: tuple[str, ...] = ()
    proxy: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    prefix: str = ""

    def __repr__(self) -> str:
        # Without what is secret.
        return f"<ApiConnection {self.conn_id}: {self.base_url}>"

    @property
    def name(self) -> str:
        """What to call the server."""
        return f"the dbt server at {self.base_url} (connection {self.conn_id})"

    @property
    def secrets(self) -> list[str]:
        """What must not be shown."""
        found = [self.password, self.token, self.oauth2.client_secret if self.oauth2 else None]
        if len(self.cert) > _WITH_PASSWORD - 1:
            found.append(self.cert[-1])
        found += [value for name, value in self.headers.items() if _SECRET_HEADER.search(name)]
        return [value for value in found if value]

    def ssl_context(self) -> ssl.SSLContext:
        """
        Return what checks the server's certificate, and shows ours.

        :raises ArgumentError: when a file cannot be read
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.cert:
                context.load_cert_chain(*self.cert)
        except (OSError, ValueError) as error:
            files = ", ".join(filter(None, (self.ca, *self.cert[:2])))
            why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise ArgumentError(
                f"connection {self.conn_id}: ca, cert", files, f"readable files in PEM format ({why})"
            ) from None
        return context


_WITH_PASSWORD: Final = 3
# Not all: a header `X-Team: analytics` would have that word masked wherever a log has it.
_SECRET_HEADER: Final = re.compile(
    r"auth|cookie|credential|jwt|key|passw|secret|session|signature|token", re.IGNORECASE
)


def read_connection(connection: Any) -> ApiConnection:
    """
    Read one of Airflow's connections.

    :raises ArgumentError: naming the connection and what is wrong with it, without any value that may be secret
    """
    reader = _Reader(connection.conn_id, connection.extra_dejson)
    oauth2 = reader.oauth2()
    token = reader.text("bearer_token") or reader.text("token")
    login, password = connection.login or None, connection.password or None
    ways = [name for name, given in (("login", login), ("bearer_token", token), ("oauth2", oauth2)) if given]
    if len(ways) > 1:
        raise reader.wrong(", ".join(ways), "only one way to sign in")
    return ApiConnection(
        conn_id=connection.conn_id,
        base_url=reader.base_url(connection),
        login=login,
        password=password,
        token=token,
        oauth2=oauth2,
        headers=reader.headers(),
        verify=reader.boolean("verify"),
        ca=reader.text("ca") or reader.certificates(),
        cert=reader.cert(),
        proxy=reader.text("proxy"),
        timeout=reader.seconds("timeout"),
        prefix=reader.text("prefix") or "",
    )


class _Reader:
    """The extra of a connection."""

    def __init__(self, conn_id: str, extra: Mapping[str, Any]) -> None:
        self._conn_id = conn_id
        self._extra = extra
        self._check_names("extra", extra, KNOWN_EXTRAS)

    def wrong(self, what: str, expected: str) -> ArgumentError:
        """Return an error about a part of the connection; never with its value."""
        return ArgumentError(f"connection {self._conn_id}", what, expected)

    def _check_names(self, where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
        for name in given:
            if name not in known:
                raise ArgumentError(
                    f"connection {self._conn_id}: {where}",
                    name,
                    f"one of {', '.join(known)}",
                    known=known,
                    sought=name,
                )

    def base_url(self, connection: Any) -> str:
        """Return where the server is, as Airflow's HTTP hook understands it."""
        host = (connection.host or "").strip()
        if "://" not in host:
            host = f"{connection.schema or 'http'}://{host}"
        try:
            parts = urlsplit(host)
            port = connection.port or parts.port
        except ValueError:
            raise self.wrong("host", "a host, or its address as https://host:port/path") from None
        if parts.username is not None or parts.password is not None:
            raise self.wrong("host", "an address without login and password, which have fields of their own")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise self.wrong("host", "a host, and http or https as its schema")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{parts.scheme}://{name}{f':{port}' if port else ''}{parts.path.rstrip('/')}"

    def text(self, name: str) -> str | None:
        """Return a text of the extra."""
        value = self._extra.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "text")
        return value or None

    def boolean(self, name: str) -> bool:
        """Return a boolean of the extra, True by default; a path in its place is one of certificates to trust."""
        value = self._extra.get(name)
        if value is None or isinstance(value, bool):
            return value is not False
        return str(value).strip().lower() not in _FALSE

    def certificates(self) -> str | None:
        """Return the file that `verify` names, as it may to Airflow's HTTP hook."""
        value = self._extra.get("verify")
        if not isinstance(value, str) or value.strip().lower() in _TRUE | _FALSE:
            return None
        return value or None

    def seconds(self, name: str) -> float:
        """Return a number of seconds."""
        value = self._extra.get(name, DEFAULT_TIMEOUT)
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            raise self.wrong(name, "a number of seconds")
        return seconds

    def cert(self) -> tuple[str, ...]:
        """Return the files of our own certificate."""
        value = self._extra.get("cert")
        files = [value] if isinstance(value, str) else value
        if files is None:
            return ()
        if not isinstance(files, list) or not 0 < len(files) <= _WITH_PASSWORD:
            raise self.wrong(
                "cert",
                "a certificate file, or a list: the certificate file, the key file and the key's password",
            )
        if not all(isinstance(each, str) for each in files):
            raise self.wrong("cert", "files")
        return tuple(files)

    def headers(self) -> dict[str, str]:
        """Return the headers that are sent with each request."""
        value = self._extra.get("headers") or {}
        if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value.values()):
            raise self.wrong("headers", "an object whose values are text")
        return dict(value)

    def oauth2(self) -> OAuth2 | None:
        """Return how to get a token."""
        value = self._extra.get("oauth2")
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong("oauth2", "an object")
        self._check_names("oauth2", value, _OAUTH2)
        for name in ("token_url", "client_id", "client_secret"):
            if not isinstance(value.get(name), str) or not value[name]:
                raise self.wrong("oauth2", f"{name} in it, as text")
        method = value.get("token_endpoint_auth_method") or "client_secret_basic"
        if method not in {"client_secret_basic", "client_secret_post"}:
            raise self.wrong(
                "oauth2", "client_secret_basic or client_secret_post as its token_endpoint_auth_method"
            )
        return OAuth2(
            token_url=value["token_url"],
            client_id=value["client_id"],
            client_secret=value["client_secret"],
            scope=value.get("scope"),
            audience=value.get("audience"),
            auth_method=method,
        )
