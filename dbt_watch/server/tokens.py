"""
The server's own tokens: made, listed and revoked on the command line, checked with each request.

A token is `dbtw_<id>_<secret>`. The secret is 256 bits of chance, so its SHA-256 tells nothing of it; that is all that is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from dbt_watch.exceptions import ArgumentError
from dbt_watch.server.database import TOKENS, Database

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX: Final = "dbtw_"

_TOKEN: Final = re.compile(r"dbtw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class ApiToken:
    """
    What is known of a token; times are seconds since 1970.

    :ivar projects: the projects that it is for; None means all
    :ivar commands: the sub-commands of dbt that it is for; None means all that a project allows
    """

    name: str
    projects: tuple[str, ...] | None
    commands: tuple[str, ...] | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def is_valid(self, now: float) -> bool:
        """Return whether it may be used."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class TokenStore:
    """The tokens in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(
        self,
        name: str,
        *,
        projects: Sequence[str] | None = None,
        commands: Sequence[str] | None = None,
        days: float | None = None,
    ) -> str:
        """
        Make a token and return it; it cannot be shown again.

        :param days: after which it is not valid any more
        :raises ArgumentError: when the name is taken, or is none
        """
        if not _NAME.fullmatch(name):
            raise ArgumentError("name", name, "letters, digits, `.`, `_` and `-`")
        identifier, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        now = time.time()
        values = {
            "id": identifier,
            "name": name,
            "hash": _hash(secret),
            "projects": None if projects is None else json.dumps(list(projects)),
            "commands": None if commands is None else json.dumps(list(commands)),
            "created_at": now,
            "expires_at": None if days is None else now + days * 86_400,
        }
        try:
            with self._database.writing() as connection:
                connection.execute(TOKENS.insert().values(values))
        except IntegrityError:
            raise ArgumentError("name", name, "a name that no other token has or had") from None
        return f"{PREFIX}{identifier}_{secret}"

    def all(self) -> list[ApiToken]:
        """Return all tokens, in the order in which they were made."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(TOKENS).order_by(TOKENS.c.created_at)).mappings()
            return [_from_row(dict(row)) for row in rows]

    def revoke(self, name: str) -> None:
        """
        Let a token be valid no more, from the next request on.

        :raises ArgumentError: when no valid token has this name
        """
        this = TOKENS.update().where(TOKENS.c.name == name, TOKENS.c.revoked_at.is_(None))
        with self._database.writing() as connection:
            if not connection.execute(this.values(revoked_at=time.time())).rowcount:
                known: list[str] = list(
                    connection.scalars(sa.select(TOKENS.c.name).where(TOKENS.c.revoked_at.is_(None)))
                )
                raise ArgumentError("name", name, "the name of a token", known=known)

    def find(self, token: str) -> ApiToken | None:
        """Return a token that may be used; None if it is wrong, expired or revoked."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        with self._database.reading() as connection:
            query = sa.select(TOKENS).where(TOKENS.c.id == match[1])
            row = connection.execute(query).mappings().one_or_none()
        if row is None or not hmac.compare_digest(row["hash"], _hash(match[2])):
            return None
        found = _from_row(dict(row))
        return found if found.is_valid(time.time()) else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _from_row(row: Mapping[str, Any]) -> ApiToken:
    return ApiToken(
        name=row["name"],
        projects=None if row["projects"] is None else tuple(json.loads(row["projects"])),
        commands=None if row["commands"] is None else tuple(json.loads(row["commands"])),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
