"""
`dbt-watch server`: runs a server, and makes, lists and revokes its tokens.

`dbt_watch.cli` calls `add_arguments` and `run`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.exceptions import ArgumentError
from dbt_watch.server.database import Database
from dbt_watch.server.dbt_commands import SUB_COMMANDS
from dbt_watch.server.settings import Settings, load_settings
from dbt_watch.server.supervisor import SupervisedProcess, Supervisor
from dbt_watch.server.tokens import ApiToken, TokenStore

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Run dbt invocations that clients post over HTTP.

Without a sub-command it runs the API and the workers, until Ctrl-C or
SIGTERM. `workers` and `api` run only one of them, for several hosts. `token`
creates, lists and revokes the tokens that clients need.
"""
EXAMPLE = "dbt-watch server --config server.yml"

CONFIG_VARIABLE: Final = "DBT_WATCH_SERVER_CONFIG"
_DEFAULT_CONFIG: Final = "server.yml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(os.environ.get(CONFIG_VARIABLE, _DEFAULT_CONFIG)),
        metavar="PATH",
        help=f"the settings file (default: ${CONFIG_VARIABLE}, or {_DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "--host", metavar="ADDRESS", help="the address to listen on (default: from the settings)"
    )
    parser.add_argument("--port", type=int, metavar="N", help="the port (default: from the settings)")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="how many dbt processes run at once (default: from the settings)",
    )
    actions = parser.add_subparsers(dest="action", metavar="COMMAND")
    actions.add_parser("api", help="run only the API")
    actions.add_parser("workers", help="run only this host's workers")
    tokens = actions.add_parser("token", help="create, list or revoke tokens").add_subparsers(
        dest="what", metavar="COMMAND", required=True
    )
    make = tokens.add_parser("make", help="create a token and print it once")
    make.add_argument(
        "name", metavar="NAME", help="the token's name, also the user name for basic authentication"
    )
    make.add_argument(
        "--project", action="append", metavar="NAME", help="a project it gives access to (default: all)"
    )
    make.add_argument(
        "--command",
        action="append",
        metavar="NAME",
        help='a dbt sub-command it may run, such as "source freshness" (default: all)',
    )
    make.add_argument("--days", type=float, metavar="N", help="days until it expires (default: never)")
    tokens.add_parser("list", help="list all tokens, without their secrets")
    revoke = tokens.add_parser("revoke", help="revoke a token now")
    revoke.add_argument("name", metavar="NAME", help="the token's name")


def run(args: argparse.Namespace) -> int:
    """Do what the parsed options ask for; return the exit status."""
    overrides: dict[str, Any] = {"host": args.host, "port": args.port, "workers": args.workers}
    settings = load_settings(args.config, **overrides)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Logs, artifacts and the database are for nobody else.
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("huey").setLevel(logging.WARNING)
    if args.action == "token":
        return _token(args, settings)
    if args.action == "api":
        return _run_api(settings)
    if args.action == "workers":
        return _run_workers(settings)
    return _run_both(args, settings)


def _token(args: argparse.Namespace, settings: Settings) -> int:
    database = Database(settings.database_url)
    database.make_tables()
    store = TokenStore(database)
    if args.what == "make":
        for project in args.project or ():
            if project not in settings.projects:
                raise ArgumentError("project", project, "the name of a project", known=settings.projects)
        for command in args.command or ():
            if command not in SUB_COMMANDS:
                raise ArgumentError("command", command, "a dbt sub-command", known=SUB_COMMANDS)
        _print(store.make(args.name, projects=args.project, commands=args.command, days=args.days))
    elif args.what == "revoke":
        store.revoke(args.name)
    else:
        for token in store.all():
            _print(_row(token, time.time()))
    return 0


def _row(token: ApiToken, now: float) -> str:
    state = "valid" if token.is_valid(now) else "expired" if token.revoked_at is None else "revoked"
    end = "never" if token.expires_at is None else time.strftime("%Y-%m-%d", time.gmtime(token.expires_at))
    projects = "all projects" if token.projects is None else ",".join(token.projects)
    commands = "all commands" if token.commands is None else ",".join(token.commands)
    return f"{token.name}\t{state}\texpires {end}\t{projects}\t{commands}"


def _run_api(settings: Settings) -> int:
    # What only this process needs.
    import uvicorn  # noqa: PLC0415

    from dbt_watch.server.app import create_app  # noqa: PLC0415

    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=3,
        limit_concurrency=2 * settings.limits.followers + 800,
    )
    return 0


def _run_workers(settings: Settings) -> int:
    from dbt_watch.server.worker.consumer import run_workers  # noqa: PLC0415 - what only this process needs

    run_workers(settings)
    return 0


def _run_both(args: argparse.Namespace, settings: Settings) -> int:
    common = [sys.executable, "-m", "dbt_watch.cli", "server", "--config", str(args.config.absolute())]
    for option in ("host", "port", "workers"):
        value = getattr(args, option)
        if value is not None:
            common += [f"--{option}", str(value)]
    _print(f"serving on http://{settings.host}:{settings.port}", sys.stderr)
    return Supervisor(
        [
            SupervisedProcess("the API", [*common, "api"], signal.SIGKILL),
            SupervisedProcess("the workers", [*common, "workers"], signal.SIGTERM),
        ],
        settings.stop_grace_s,
    ).run()


def _print(text: str, stream: Any = None) -> None:
    print(text, file=stream or sys.stdout, flush=True)
