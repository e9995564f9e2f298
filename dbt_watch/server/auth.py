"""
Who sends a request, and what they may do: by a token of the server, bearer or basic, or by one of an OpenID Connect issuer.

`app` asks for every request but those about the server's health.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt

from dbt_watch.server.tokens import PREFIX, TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbt_watch.server.settings import OidcSettings, RightSettings, Settings

# In seconds: how long keys are used before they are read again, and how soon they are for the sake of an unknown key.
_KEYS_AGE: Final = 300.0
_KEYS_PAUSE: Final = 10.0
_KEYS_TIMEOUT: Final = 5.0
_MAX_KEYS: Final = 1_000_000  # bytes


class Unauthenticated(Exception):
    """A request says nothing of its sender that can be believed."""


@dataclass(frozen=True, kw_only=True)
class Principal:
    """
    Who sends a request.

    :ivar projects: the projects that they may use; None means all
    :ivar commands: the sub-commands of dbt that they may run; None means all that a project allows
    """

    name: str
    projects: tuple[str, ...] | None = None
    commands: tuple[str, ...] | None = None

    def projects_among(self, names: Iterable[str]) -> set[str]:
        """Return those of some projects that they may use."""
        return {name for name in names if self.projects is None or name in self.projects}

    def may_use(self, project: str) -> bool:
        """Return whether they may use a project."""
        return self.projects is None or project in self.projects

    def may_run(self, command: str) -> bool:
        """Return whether they may run a dbt sub-command."""
        return self.commands is None or command in self.commands


class Authenticator:
    """
    Tells the sender of a request from its `Authorization`.

    :param tokens: the server's own
    """

    def __init__(self, settings: Settings, tokens: TokenStore) -> None:
        self._is_open = settings.auth == "none"
        self._tokens = tokens
        self._oidc = OidcVerifier(settings.oidc) if settings.oidc is not None else None

    def __call__(self, authorization: str | None) -> Principal:
        """
        Return who sends a request.

        :param authorization: the value of its header
        :raises Unauthenticated: when it is missing, or not to be believed
        """
        if self._is_open:
            return Principal(name="anyone")
        scheme, _, value = (authorization or "").strip().partition(" ")
        value = value.strip()
        if scheme.lower() == "basic":
            return self._basic(value)
        if scheme.lower() == "bearer" and value:
            if value.startswith(PREFIX):
                return self._token(value)
            if self._oidc is not None:
                return self._oidc(value)
        raise Unauthenticated

    def _token(self, token: str, name: str | None = None) -> Principal:
        found = self._tokens.find(token)
        if found is None or name not in {None, found.name}:
            raise Unauthenticated
        return Principal(name=found.name, projects=found.projects, commands=found.commands)

    def _basic(self, value: str) -> Principal:
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthenticated from None
        return self._token(password, name)


class OidcVerifier:
    """
    Checks the tokens of an issuer with the keys that it publishes.

    :param fetch: reads these keys
    """

    def __init__(self, settings: OidcSettings, fetch: Callable[[str], Any] | None = None) -> None:
        self._settings = settings
        self._fetch = fetch or _fetch
        self._keys: dict[str | None, Any] = {}
        self._read_at = -_KEYS_AGE
        self._lock = threading.Lock()

    def __call__(self, token: str) -> Principal:
        """
        Return the bearer of a token.

        :raises Unauthenticated: when it is not of this issuer, not for this server, expired, or gives no right
        """
        settings = self._settings
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=list(settings.algorithms),
                audience=settings.audience,
                issuer=settings.issuer,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError:
            raise Unauthenticated from None
        for right in settings.rights:
            if _has(claims, right):
                name = f"oidc:{claims.get(settings.name_claim, '')}"[:250]
                return Principal(name=name, projects=right.projects, commands=right.commands)
        raise Unauthenticated

    def _key(self, kid: str | None) -> Any:
        with self._lock:
            age = time.monotonic() - self._read_at
            if age >= _KEYS_AGE or (kid not in self._keys and age >= _KEYS_PAUSE):
                self._read_at = time.monotonic()
                self._keys = self._read() or self._keys
            if kid not in self._keys:
                raise Unauthenticated
            return self._keys[kid]

    def _read(self) -> dict[str | None, Any]:
        try:
            keys = jwt.PyJWKSet.from_dict(self._fetch(self._settings.jwks_url)).keys
        except (OSError, ValueError, jwt.PyJWTError):
            return {}
        return {key.key_id: key for key in keys}


def _has(claims: dict[str, Any], right: RightSettings) -> bool:
    value = claims.get(right.claim)
    return right.value in value if isinstance(value, list) else value == right.value


def _fetch(url: str) -> Any:
    if not url.startswith(("https://", "http://")):
        raise ValueError(url)
    with urllib.request.urlopen(url, timeout=_KEYS_TIMEOUT) as answer:  # noqa: S310 - checked above
        return json.loads(answer.read(_MAX_KEYS))
