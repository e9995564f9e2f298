"""
What the operator of a server decides: the file of its settings, typed and checked.

`command` reads it once in each process, and hands it to everything else. Relative paths are relative to the file.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from dbt_watch.exceptions import ArgumentError

DATABASE_VARIABLE: Final = "DBT_WATCH_SERVER_DATABASE"
QUEUE_VARIABLE: Final = "DBT_WATCH_SERVER_QUEUE"

# What a project allows unless its settings say more. `deps` and `clean` change the project's own directory, `debug` shows how
# it reaches its database.
DEFAULT_COMMANDS: Final = (
    "build", "clone", "compile", "docs generate", "list", "ls", "parse", "retry", "run", "run-operation", "seed", "show",
    "snapshot", "source freshness", "test",
)  # fmt: skip

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MAX_PORT: Final = 65_535


class ServedProjectSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One dbt project that the server may run.

    :ivar directory: where its `dbt_project.yml` is
    :ivar dbt: the executable of dbt: a path, or a name on PATH
    :ivar profiles_dir: where its `profiles.yml` is; the project's directory by default
    :ivar targets: the targets that may be asked for; the first is the default. Without any, the profile's own default is used
    :ivar commands: the sub-commands of dbt that may be asked for
    :ivar env: environment variables of its dbt
    :ivar env_from: the names of variables that its dbt gets from the environment of the server; their values are secret
    :ivar time_limit_s: seconds after which an invocation is ended
    :ivar warm: whether a process on each host keeps dbt imported, where that is possible
    """

    directory: Path
    dbt: str = "dbt"
    profiles_dir: Path | None = None
    targets: tuple[str, ...] = ()
    commands: tuple[str, ...] = DEFAULT_COMMANDS
    env: dict[str, str] = {}
    env_from: tuple[str, ...] = ()
    time_limit_s: float = 86_400
    warm: bool = True


class RightSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What a bearer of an OIDC token may do whose claim has a value; the claim may be a list that holds it.

    :ivar projects: the names of projects; all when it is not given
    :ivar commands: sub-commands of dbt; all that a project allows when it is not given
    """

    claim: str
    value: str
    projects: tuple[str, ...] | None = None
    commands: tuple[str, ...] | None = None


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Whose tokens are accepted, besides the server's own.

    :ivar jwks_url: where the issuer publishes its keys
    :ivar name_claim: the claim that names the bearer, for the records
    :ivar rights: what a bearer may do; the first that fits holds, and without one nothing is allowed
    """

    issuer: str
    audience: str
    jwks_url: str
    rights: tuple[RightSettings, ...]
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    name_claim: str = "sub"


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What bounds the server.

    :ivar body_bytes: of a request
    :ivar log_bytes: of the log of an invocation; what is longer is left out
    :ivar artifact_bytes: of one artifact; a larger one is not kept
    :ivar queued: how many invocations may wait
    :ivar followers: how many logs may be followed at a time
    """

    body_bytes: int = 262_144
    log_bytes: int = 1_000_000_000
    artifact_bytes: int = 500_000_000
    queued: int = 10_000
    followers: int = 200


class CallbackSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Where the server may send callbacks.

    :ivar hosts: the hosts, each as `name` or `name:port`; without any, callbacks are refused
    :ivar http: whether they may go unencrypted
    """

    hosts: tuple[str, ...] = ()
    http: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The settings of a server.

    :ivar state_dir: where logs, artifacts, what dbt keeps between runs and the embedded database are
    :ivar database: a URL of SQLAlchemy; SQLite in `state_dir` by default
    :ivar queue: a URL of Redis; SQLite in `state_dir` by default
    :ivar workers: how many dbts run at a time on this host
    :ivar keep_days: days after which an ended invocation is removed, with its log and its artifacts
    :ivar stop_grace_s: seconds that a running dbt is left when the server is asked to stop
    :ivar metrics_open: whether `/metrics` needs no token
    """

    state_dir: Path
    projects: dict[str, ServedProjectSettings]
    host: str = "127.0.0.1"
    port: int = 8580
    database: str = ""
    queue: str = ""
    workers: int = 2
    auth: Literal["token", "none"] = "token"
    oidc: OidcSettings | None = None
    callbacks: CallbackSettings = CallbackSettings()
    limits: LimitSettings = LimitSettings()
    keep_days: float = 7
    stop_grace_s: float = 20
    metrics_open: bool = False

    @property
    def database_url(self) -> str:
        """Where the invocations and the tokens are."""
        return self.database or f"sqlite:///{self.state_dir / 'server.db'}"

    @property
    def queue_file(self) -> Path:
        """Where the embedded queue is."""
        return self.state_dir / "queue.db"


def load_settings(path: Path, **overrides: Any) -> Settings:
    """
    Read and check the settings of a server.

    The environment variables `DBT_WATCH_SERVER_DATABASE` and `DBT_WATCH_SERVER_QUEUE` overrule the file, since these URLs
    hold passwords.

    :param path: a YAML file
    :param overrides: settings that overrule the file and the environment, except those that are None
    :raises ArgumentError: when the file cannot be read, or a setting is wrong
    """
    base = path.absolute().parent

    def decode(kind: type, value: Any) -> Any:
        if kind is Path and isinstance(value, str):
            return Path(os.path.abspath(base / value))  # noqa: PTH100 - `..` is taken out, links are not followed
        raise NotImplementedError

    try:
        content = msgspec.yaml.decode(path.read_bytes())
        if isinstance(content, dict):
            content |= {
                name: os.environ[variable]
                for name, variable in (("database", DATABASE_VARIABLE), ("queue", QUEUE_VARIABLE))
                if os.environ.get(variable)
            }
            content |= {name: value for name, value in overrides.items() if value is not None}
        settings = msgspec.convert(content, Settings, dec_hook=decode)
    except (OSError, msgspec.MsgspecError) as error:
        raise ArgumentError("config", str(path), f"a valid settings file: {error}") from None
    _check(settings)
    return settings


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check(settings: Settings) -> None:
    if settings.auth == "none" and not is_loopback(settings.host):
        raise ArgumentError("auth", "none", f"`token`: {settings.host} can be reached from other machines")
    if not 0 <= settings.port <= _MAX_PORT:
        raise ArgumentError("port", settings.port, f"a port, from 0 to {_MAX_PORT}")
    if settings.workers < 1:
        raise ArgumentError("workers", settings.workers, "at least 1")
    if settings.queue and not settings.queue.startswith(("redis://", "rediss://", "unix://")):
        raise ArgumentError(
            "queue", settings.queue.partition("@")[2], "a URL of Redis, such as redis://host:6379/0"
        )
    if not settings.projects:
        raise ArgumentError("projects", {}, "at least one project")
    for name, project in settings.projects.items():
        _check_project(name, project)


def _check_project(name: str, project: ServedProjectSettings) -> None:
    if not _NAME.fullmatch(name):
        raise ArgumentError("projects", name, "a name of letters, digits, `_` and `-`")
    for target in project.targets:
        if not _NAME.fullmatch(target):
            raise ArgumentError(f"projects.{name}.targets", target, "a name of letters, digits, `_` and `-`")
    if not (project.directory / "dbt_project.yml").is_file():
        raise ArgumentError(
            f"projects.{name}.directory", str(project.directory), "a directory with a dbt_project.yml"
        )
    for variable in project.env_from:
        if variable not in os.environ:
            raise ArgumentError(
                f"projects.{name}.env_from", variable, "a variable in the server's environment"
            )
