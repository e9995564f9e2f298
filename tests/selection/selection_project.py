"""
Writes dbt projects to select from: all kinds of resources, in an arrangement that a seed decides.

No warehouse is needed; the projects are only parsed. They hold a package of the same folder and model names as the root project,
versions, tests of several parents, disabled, ephemeral and empty models, groups, YAML selectors.
"""

# ruff: noqa: S608  (nobody runs the SQL of these projects)

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TAGS = ["nightly", "hourly", "finance", "pii", "weekly-full", "night"]
OWNERS = ["ann", "bob"]
FOLDERS = ["staging", "staging/web", "marts", "marts/core", "marts/finance"]


def write_project(directory: Path, seed: int) -> None:
    """Write the project of a seed into an empty directory; its profile lies in it, too."""
    _Writer(directory, random.Random(seed)).write()


class _Writer:
    def __init__(self, directory: Path, rng: random.Random) -> None:
        self.directory = directory
        self.rng = rng
        self.models: list[str] = []
        self.refable = ["raw_orders", "raw_customers", "country.codes"]

    def write(self) -> None:
        self.project("shop", self.directory)
        self.profile()
        self.seeds()
        self.sources()
        self.package()
        for number in range(14):
            self.model(f"{self.rng.choice(['stg', 'int', 'fct', 'dim'])}_{number}", self.rng.choice(FOLDERS))
        self.model("orders", "marts", config={"materialized": "table"})
        self.model("orders.daily", "marts")
        self.versioned_model()
        self.special_models()
        self.tests()
        self.snapshot()
        self.semantics()
        self.json("models/groups.yml", {"groups": [_group("finance"), _group("web")]})
        self.text("analyses/question.sql", "select * from {{ ref('orders') }}")
        self.text("macros/unused.sql", "{% macro unused() %}1{% endmacro %}")
        self.json("selectors.yml", {"selectors": SELECTORS})

    def project(self, name: str, directory: Path) -> None:
        config = {
            "name": name,
            "version": "1.0",
            "config-version": 2,
            "profile": "shop",
            "flags": {"send_anonymous_usage_stats": False},
            "models": {name: {"+schema": name, "staging": {"+tags": [self.rng.choice(TAGS)]}}},
            "on-run-start": ["select 1"],
        }
        _write(directory / "dbt_project.yml", json.dumps(config))

    def profile(self) -> None:
        target = {"type": "duckdb", "path": ":memory:", "threads": 1}
        self.json("profiles.yml", {"shop": {"target": "dev", "outputs": {"dev": target}}})

    def seeds(self) -> None:
        for name in ("raw_orders", "raw_customers", "country.codes"):
            self.text(f"seeds/{name}.csv", "id,status\n1,a\n")
        seed = {"name": "raw_orders", "config": {"tags": ["nightly"]}, "columns": [_column("id", ["unique"])]}
        # described by a file of another folder
        self.json("models/marts/seeds.yml", {"seeds": [seed]})

    def sources(self) -> None:
        tables = [
            {"name": "events", "columns": [_column("id", ["not_null"])], "config": {"tags": ["pii"]}},
            {"name": "clicks"},
        ]
        disabled = {"name": "old", "config": {"enabled": False}}
        web = {"name": "web", "schema": "main", "tables": [*tables, disabled]}
        erp = {
            "name": "erp",
            "schema": "main",
            "config": {"tags": ["hourly"]},
            "tables": [{"name": "events"}],
        }
        self.json("models/staging/web/sources.yml", {"sources": [web, erp]})

    def package(self) -> None:
        # where `dbt deps` would put it
        package = self.directory / "dbt_packages" / "toolkit"
        self.json("packages.yml", {"packages": [{"local": "dbt_packages/toolkit"}]})
        self.project("toolkit", package)
        _write(package / "models/marts/orders.sql", "select 1 as id")
        _write(package / "models/staging/base.sql", "select 1 as id")
        _write(package / "models/only_here/extra.sql", "select id from {{ ref('toolkit', 'base') }}")
        _write(package / "tests/no_orders.sql", "select * from {{ ref('toolkit', 'orders') }} where false")
        described = {"name": "base", "columns": [_column("id", ["not_null", "unique"])]}
        table = {"name": "log", "columns": [_column("id", ["not_null"])]}
        source = {"name": "web", "schema": "main", "tables": [table]}
        _write(
            package / "models/staging/base.yml",
            json.dumps({"version": 2, "models": [described], "sources": [source]}),
        )
        self.refable.append("base")

    def model(self, name: str, folder: str, *, config: dict[str, object] | None = None) -> None:
        parents = self.rng.sample(self.refable, k=min(len(self.refable), self.rng.randint(1, 3)))
        froms = [f"{{{{ ref('{parent}') }}}}" for parent in parents]
        if self.rng.random() < 0.4:
            source, table = self.rng.choice([("web", "events"), ("web", "clicks"), ("erp", "events")])
            froms.append(f"{{{{ source('{source}', '{table}') }}}}")
        self.text(
            f"models/{folder}/{name}.sql", "\nunion all\n".join(f"select id from {one}" for one in froms)
        )
        settings = {**self.settings(), **(config or {})}
        if settings["materialized"] == "ephemeral" and settings.get("access") == "public":
            del settings["access"]
        columns = [_column("id", self.column_tests())]
        described = {"name": name, "description": f"the {name}", "config": settings, "columns": columns}
        # some models are described in their own folder, some in another
        place = self.rng.choice([folder, "marts"])
        self.json(f"models/{place}/_{name}.yml", {"models": [described]})
        if settings.get("enabled", True):
            self.refable.append(name)
            self.models.append(name)

    def settings(self) -> dict[str, object]:
        rng = self.rng
        settings: dict[str, object] = {
            "materialized": rng.choice(["table", "view", "ephemeral", "incremental"]),
            "tags": rng.sample(TAGS, k=rng.randint(0, 2)),
            "meta": {
                "owner": rng.choice(OWNERS),
                "level": rng.randint(1, 2),
                "certified": rng.random() < 0.5,
                "topics": rng.sample(["money", "people", "things"], k=rng.randint(0, 2)),
                "sla": {"strict": rng.random() < 0.5, "hours": "24"},
            },
        }
        if rng.random() < 0.3:
            settings["group"] = rng.choice(["finance", "web"])
        if rng.random() < 0.3:
            settings["access"] = "public"
        return settings

    def column_tests(self) -> list[object]:
        rng = self.rng
        severity = {
            "config": {"severity": rng.choice(["warn", "WARN", "error"]), "tags": rng.sample(TAGS, k=1)}
        }
        chosen: list[object] = rng.sample(["unique", "not_null"], k=rng.randint(0, 2))
        if rng.random() < 0.5:
            other = rng.choice(self.refable)
            arguments = {"to": f"ref('{other}')", "field": "id"}
            chosen.append({"relationships": {"arguments": arguments, **severity}})
        if rng.random() < 0.3:
            chosen.append({"accepted_values": {"arguments": {"values": [1, 2]}, **severity}})
        return chosen

    def versioned_model(self) -> None:
        for version in (1, 2, 3):
            self.text(f"models/marts/core/accounts_v{version}.sql", "select id from {{ ref('orders') }}")
        versions = [{"v": 1}, {"v": 2, "config": {"tags": ["pii"]}}, {"v": 3}]
        described = {
            "name": "accounts",
            "latest_version": 2,
            "versions": versions,
            "columns": [_column("id", ["not_null"])],
        }
        unit_test = {
            "name": "accounts_copy_ids",
            "model": "accounts",
            "given": [{"input": "ref('orders')", "rows": [{"id": 1}]}],
            "expect": {"rows": [{"id": 1}]},
        }
        self.json("models/marts/core/accounts.yml", {"models": [described], "unit_tests": [unit_test]})
        self.text(
            "models/marts/core/account_report.sql",
            "select id from {{ ref('accounts') }} union all select id from {{ ref('accounts', v=1) }}",
        )
        self.models.append("account_report")
        self.refable.append("account_report")

    def special_models(self) -> None:
        self.model("retired", "marts", config={"enabled": False})
        self.text("models/staging/blank.sql", " \n\t\n")
        self.model("secret", "marts/finance", config={"group": "finance", "access": "private"})
        self.refable.remove("secret")
        unit_test = {
            "name": "orders_are_counted",
            "model": "orders",
            "config": {"tags": ["nightly"]},
            "given": [],
            "expect": {"rows": [{"id": 1}]},
        }
        self.json("models/marts/orders_units.yml", {"unit_tests": [unit_test]})

    def tests(self) -> None:
        for number in range(4):
            some = self.rng.sample(self.models, k=self.rng.randint(1, 3))
            froms = " union all ".join(
                f"select id from {{{{ ref('{name}') }}}}" for name in some if name != "secret"
            )
            tag = self.rng.choice(TAGS)
            severity = self.rng.choice(["warn", "error"])
            header = f"{{{{ config(tags=['{tag}'], severity='{severity}') }}}}"
            self.text(f"tests/check_{number}.sql", f"{header} {froms or 'select 1 as id'}")
        self.text(
            "tests/of_source.sql", "select * from {{ source('web', 'events') }} join {{ ref('orders') }}"
        )
        self.text("tests/of_nothing.sql", "select 1 where false")

    def snapshot(self) -> None:
        body = "{% snapshot orders_history %}{{ config(unique_key='id', strategy='check', check_cols=['id']"
        self.text(
            "snapshots/history.sql",
            body
            + ", target_schema='main', tags=['weekly-full']) }} select * from {{ ref('orders') }}{% endsnapshot %}",
        )
        self.json(
            "snapshots/history.yml",
            {"snapshots": [{"name": "orders_history", "columns": [_column("id", ["unique"])]}]},
        )

    def semantics(self) -> None:
        self.text("models/marts/days.sql", "{{ config(materialized='table') }} select current_date as day")
        spine = {
            "name": "days",
            "time_spine": {"standard_granularity_column": "day"},
            "columns": [{"name": "day", "granularity": "day"}],
        }
        semantic_model = {
            "name": "order_facts",
            "model": "ref('orders')",
            "defaults": {"agg_time_dimension": "ordered_on"},
            "entities": [{"name": "id", "type": "primary"}],
            "dimensions": [
                {"name": "ordered_on", "type": "time", "type_params": {"time_granularity": "day"}}
            ],
            "measures": [{"name": "amount", "agg": "sum"}],
        }
        metrics = [
            {
                "name": "revenue",
                "label": "Revenue",
                "type": "simple",
                "type_params": {"measure": "amount"},
                "config": {"group": "finance", "tags": ["finance"]},
            },
            {
                "name": "revenue_twice",
                "label": "Twice",
                "type": "derived",
                "type_params": {"expr": "2 * revenue", "metrics": [{"name": "revenue"}]},
            },
        ]
        saved_query = {
            "name": "revenue_by_day",
            "config": {"tags": ["nightly"]},
            "query_params": {"metrics": ["revenue"], "group_by": ["TimeDimension('metric_time', 'day')"]},
        }
        exposures = [
            {
                "name": name,
                "type": "dashboard",
                "owner": {"name": "Ann", "email": "ann@example.org"},
                "depends_on": [f"ref('{parent}')" for parent in self.rng.sample(["orders", "days"], k=2)],
                "config": {"tags": ["weekly-full"]},
            }
            for name in ("board", "board_of_owners")
        ]
        self.json(
            "models/marts/semantics.yml",
            {
                "models": [spine],
                "semantic_models": [semantic_model],
                "metrics": metrics,
                "saved_queries": [saved_query],
                "exposures": exposures,
            },
        )

    def text(self, path: str, content: str) -> None:
        _write(self.directory / path, content)

    def json(self, path: str, content: dict[str, object]) -> None:
        # JSON is YAML, too
        self.text(
            path,
            json.dumps({"version": 2, **content} if path.startswith(("models", "snapshots")) else content),
        )


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def _column(name: str, tests: list[object]) -> dict[str, object]:
    return {"name": name, "data_tests": tests}


def _group(name: str) -> dict[str, object]:
    return {"name": name, "owner": {"name": "Ann"}}


SELECTORS: list[dict[str, object]] = [
    {"name": "plain", "definition": "tag:nightly"},
    {"name": "pair", "definition": {"tag": "finance"}},
    {
        "name": "mixed",
        "description": "a union with an exclusion",
        "definition": {
            "union": [
                {"method": "tag", "value": "nightly", "children": True, "children_depth": 1},
                "+orders",
                {"exclude": [{"method": "test_type", "value": "generic"}, "stg_*"]},
            ]
        },
    },
    {
        "name": "strict",
        "definition": {
            "intersection": [
                {"method": "path", "value": "models/marts", "indirect_selection": "cautious"},
                {"method": "config.meta.certified", "value": True},
            ]
        },
    },
    {"name": "inherits", "definition": {"method": "selector", "value": "mixed"}},
    {
        "name": "inherits_deep",
        "definition": {"union": [{"method": "selector", "value": "strict"}, {"exclude": ["tag:pii"]}]},
    },
]
