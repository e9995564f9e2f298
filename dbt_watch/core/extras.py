"""
Which extra of the package brings a library: the one table of that, for messages about what is not installed.

`cli` asks, and what needs a library of an extra only sometimes: `planning.layout`, `local.demo.environment`. A library that is not
in the table comes with the package itself.
"""

from __future__ import annotations

from typing import Final

PACKAGE: Final = "dbt-watch"

EXTRA_OF: Final = {
    "aiohttp": "demo",
    "dbt": "demo",
    "duckdb": "demo",
    "jsonpatch": "demo",
    "jsonpointer": "demo",
    "trustme": "demo",
    "grandalf": "plan",
    "libcst": "migrate",
    "fastapi": "server",
    "huey": "server",
    "jwt": "server",
    "prometheus_client": "server",
    "psutil": "server",
    "pydantic": "server",
    "sqlalchemy": "server",
    "starlette": "server",
    "uvicorn": "server",
    "yaml": "server",
}
"""By the name under which it is imported."""


def installation_of(*modules: str) -> str:
    """Return the command that installs libraries, by the names under which they are imported, or parts of these."""
    extras = sorted({extra for name in modules if (extra := EXTRA_OF.get(name.partition(".")[0]))})
    return f"pip install '{PACKAGE}[{','.join(extras)}]'" if extras else f"pip install {PACKAGE}"
