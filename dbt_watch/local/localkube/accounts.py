"""
Who may come in, and what each may do: tokens, service accounts and their rights, as RBAC grants them.

`cluster` makes the accounts, `server` asks them with every request, `faults` lets their tokens expire. The words of the
refusals are those of an API server, and rights are written as in a Role
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/). Tokens that somebody else has made are reviewed as by a
cluster's webhook (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube.errors import ApiError
from dbt_watch.local.localkube.kubeconfigs import kubeconfig, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

Review = Callable[[str], "str | None"]
"""Returns the name of the user whose token this is, or None; called in a thread."""

# Seconds for which the answer of a review holds, as with an API server's --authentication-token-webhook-cache-authorized-ttl.
REVIEW_HOLDS = 120.0
ANYTHING = "*"
ADMIN = "localkube-admin"
# The verb of a request without a name, where it differs from the one with a name.
_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_VERBS_OF_COLLECTIONS = {"GET": "list", "HEAD": "list", "DELETE": "deletecollection"}
_LISTS = ("apiGroups", "resources", "verbs")


@dataclass(frozen=True, slots=True)
class Access:
    """
    What a request wants to do.

    :ivar resource: the plural, with the subresource if there is one, such as `pods/log`
    :ivar namespace: empty when the request is about the whole cluster
    :ivar name: empty when it is about a collection
    """

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""

    @classmethod
    def of(cls, request: web.Request) -> Access | None:
        """Return what a request wants; None for paths that are no resources, which every user may read."""
        parts = [part for part in request.path.split("/") if part]
        if parts[:2] != ["api", "v1"] or len(parts) == len(["api", "v1"]):
            return None
        parts = parts[2:]
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 1:
            namespace = parts[1]
            # A path that ends with the namespace's name is about that object itself.
            parts = parts[2:] or parts
        resource, name = parts[0], parts[1] if len(parts) > 1 else ""
        if len(parts) > len(["pods", "name"]):
            resource = f"{resource}/{parts[2]}"
        verb = _VERBS.get(request.method, request.method.lower())
        if not name:
            verb = _VERBS_OF_COLLECTIONS.get(request.method, verb)
        if verb in ("get", "list") and request.query.get("watch", "") in ("1", "true", "True"):
            verb = "watch"
        return cls(verb, resource, namespace, name)

    def refusal(self, user: str) -> ApiError:
        """Return the 403 of a user who may not do this."""
        plural = self.resource.partition("/")[0]
        what = f'{plural} "{self.name}"' if self.name else plural
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        text = (
            f'{what} is forbidden: User "{user}" cannot {self.verb} resource "{self.resource}" '
            f'in API group "" {where}'
        )
        details = {"name": self.name, "kind": plural} if self.name else {"kind": plural}
        return ApiError(403, "Forbidden", text, details)


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule of a Role.

    :ivar namespace: where it holds; None for a rule of a ClusterRole that is bound in the whole cluster
    :ivar names: the objects that it is limited to; none stands for all
    """

    groups: frozenset[str]
    resources: frozenset[str]
    verbs: frozenset[str]
    names: frozenset[str]
    namespace: str | None

    @classmethod
    def parse(cls, document: Mapping[str, Any], namespace: str | None) -> Rule:
        """
        Read a rule as it stands in a Role.

        :raises ArgumentError: it is not of that form
        """
        expected = (
            "a rule of a Role: lists of strings named apiGroups, resources, verbs and perhaps resourceNames"
        )
        if not isinstance(document, Mapping) or {*document} - {*_LISTS, "resourceNames"}:
            raise ArgumentError("rules", document, expected)
        lists = [document.get(name) for name in _LISTS] + [document.get("resourceNames", [])]
        for found in lists:
            if isinstance(found, str) or not isinstance(found, Sequence):
                raise ArgumentError("rules", document, expected)
        groups, resources, verbs, names = (frozenset(map(str, found or ())) for found in lists)
        return cls(groups, resources, verbs, names, namespace)

    def allows(self, access: Access) -> bool:
        """Whether it grants this."""
        if self.namespace is not None and self.namespace != access.namespace:
            return False
        if not ({"", ANYTHING} & self.groups) or not ({access.verb, ANYTHING} & self.verbs):
            return False
        _, slash, part = access.resource.partition("/")
        wanted = {access.resource, ANYTHING} | ({f"*/{part}"} if slash else set())
        if not wanted & self.resources:
            return False
        return not self.names or access.name in self.names


@dataclass(slots=True)
class User:
    """
    Somebody who is let in.

    :ivar rules: what the user may do; None for everything
    """

    user: str
    rules: tuple[Rule, ...] | None

    def check(self, access: Access) -> None:
        """Let an access through; :raises ApiError: 403."""
        if self.rules is not None and not any(rule.allows(access) for rule in self.rules):
            raise access.refusal(self.user)

    def check_path(self, method: str, path: str) -> None:
        """Let a request through that is about no resource; :raises ApiError: 403, unless the user may do everything."""
        if self.rules is not None:
            text = f'forbidden: User "{self.user}" cannot {method.lower()} path "{path}"'
            raise ApiError(403, "Forbidden", text, {})


@dataclass(slots=True)
class Account(User):
    """A user of the server's own, and the file with its credentials."""

    namespace: str
    path: Path
    token: str


class Accounts:
    """
    All accounts of a server; used from any thread.

    :ivar authority: the certificate of the server's authority, as PEM in base64
    :ivar url: of the server; set when it listens
    """

    def __init__(self, authority: str) -> None:
        self.url = ""
        self.authority = authority
        self._lock = threading.Lock()
        self._accounts: list[Account] = []
        self._reviews: list[tuple[Review, tuple[Rule, ...] | None]] = []
        self._reviewed: dict[str, tuple[User, float]] = {}
        self._void: set[str] = set()

    def add(
        self,
        user: str,
        path: Path,
        *,
        namespace: str,
        rules: Sequence[Rule] | None = None,
    ) -> Account:
        """Make an account and write its kubeconfig."""
        rights = None if rules is None else tuple(rules)
        account = Account(user, rights, namespace, path, secrets.token_urlsafe(32))
        with self._lock:
            self._accounts.append(account)
            self._write(account)
        return account

    def accept(self, review: Review, rules: Sequence[Rule] | None) -> None:
        """Let in whom a review knows, with these rights; None for all."""
        with self._lock:
            self._reviews.append((review, None if rules is None else tuple(rules)))

    async def authenticate(self, token: str) -> User | None:
        """Return whose token this is; None for a wrong one."""
        return self._find(token) or await self._review(token)

    def _find(self, token: str) -> Account | None:
        given = token.encode()
        with self._lock:
            # All are compared, so that the time it takes tells nothing.
            found = [each for each in self._accounts if hmac.compare_digest(each.token.encode(), given)]
        return found[0] if found else None

    async def _review(self, token: str) -> User | None:
        with self._lock:
            if token in self._void:
                return None
            known = self._reviewed.get(token)
            reviews = [*self._reviews]
        if known is not None and time.monotonic() - known[1] < REVIEW_HOLDS:
            return known[0]
        for review, rules in reviews:
            name = await asyncio.to_thread(review, token)
            if name is not None:
                user = User(name, rules)
                with self._lock:
                    self._reviewed[token] = user, time.monotonic()
                return user
        return None

    def renew(self) -> None:
        """
        Replace the token of every account, in its file too; the old ones are void.

        So are tokens of others that have been let in so far.
        """
        with self._lock:
            self._void.update(self._reviewed)
            self._reviewed.clear()
            for account in self._accounts:
                account.token = secrets.token_urlsafe(32)
                self._write(account)

    def remove_files(self) -> None:
        """Remove the kubeconfigs."""
        with self._lock:
            for account in self._accounts:
                account.path.unlink(missing_ok=True)

    def _write(self, account: Account) -> None:
        text = kubeconfig(self.url, self.authority, account.token, account.namespace)
        write_private(account.path, text)


def parse_rules(rules: Any, namespace: str | None) -> list[Rule]:
    """
    Read the `rules` of a Role, or of a ClusterRole when there is no namespace.

    :raises ArgumentError: they are not of that form
    """
    if isinstance(rules, (str, Mapping)) or not isinstance(rules, Sequence):
        raise ArgumentError("rules", rules, "a list, as it stands under `rules` in a Role")
    return [Rule.parse(rule, namespace) for rule in rules]
