"""
What the arguments of astronomer-cosmos' classes become: pure, from expressions to expressions, each as its source text.

`migration.rewriting` asks for each project. docs/from-cosmos.md says the same in words, for 1.15.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Final

Texts = Mapping[str, str]
"""Arguments, each with the source text of its value."""

MODES: Final = frozenset({"KUBERNETES", "WATCHER_KUBERNETES"})


class Unknown(Exception):
    """Something cannot be rewritten; the text says what, and what to do."""


class Project:
    """
    The arguments of one project as they are collected.

    :ivar decorator: those of `@dbt_k8s_project`
    :ivar build: those of `dbt_build`
    """

    def __init__(self) -> None:
        self.decorator: dict[str, str] = {}
        self.build: dict[str, str] = {}
        self._flags: list[str] = []
        self._mode: str | None = None

    def finish(self) -> None:
        """
        See to it that all is there.

        :raises Unknown: when something is missing
        """
        if self._flags:
            self.build["flags"] = f"[{', '.join(self._flags)}]"
        if self._mode not in MODES:
            raise Unknown(
                f"the execution mode is {self._mode or 'LOCAL'}; only KUBERNETES and WATCHER_KUBERNETES are rewritten"
            )
        if "manifest" not in self.decorator:
            raise Unknown(
                "manifest_path is missing in ProjectConfig; the manifest is needed while the DAG is parsed"
            )

    def set(self, name: str, value: str) -> None:
        """Set an argument of the decorator."""
        self._set(self.decorator, name, value)

    def set_build(self, name: str, value: str) -> None:
        """Set an argument of the build."""
        self._set(self.build, name, value)

    @staticmethod
    def _set(into: dict[str, str], name: str, value: str) -> None:
        if into.get(name, value) != value:
            raise Unknown(f"{name} is given twice: as {into[name]} and as {value}")
        into[name] = value

    # What the classes take.

    def of_project(self, given: Texts) -> None:
        """Take the arguments of ProjectConfig."""
        rules: dict[str, _Rule] = {
            "manifest_path": lambda value: self.set("manifest", _as_text_of_path(value)),
            "manifest_conn_id": _only_none("put the connection into the URL: s3://conn@bucket/manifest.json"),
            # Of Airflow's own copy; the place in the image wins, which comes later.
            "dbt_project_path": lambda value: self.decorator.setdefault(
                "project_dir", _as_text_of_path(value)
            ),
            "install_dbt_deps": self._deps,
            "env_vars": lambda value: self.set("env_vars", value),
            "dbt_vars": lambda value: self.set_build("vars", value),
            "partial_parse": self._partial_parse,
        }
        for name in (
            "copy_dbt_packages", "models_relative_path", "seeds_relative_path", "snapshots_relative_path", "project_name",
        ):  # fmt: skip
            rules[name] = _drop
        _take("ProjectConfig", given, rules)

    def of_profile(self, given: Texts) -> None:
        """Take the arguments of ProfileConfig."""
        _take(
            "ProfileConfig",
            given,
            {
                "profile_name": lambda value: self._flags.extend(['"--profile"', value]),
                "target_name": lambda value: self.set_build("target", value),
                "profiles_yml_filepath": lambda value: self.set("profiles_dir", _directory(value)),
                "profile_mapping": _only_none(
                    "give profile=DbtProfile(conn_id), which makes the file of the same connection"
                ),
            },
        )

    def of_execution(self, given: Texts) -> None:
        """Take the arguments of ExecutionConfig."""
        _take(
            "ExecutionConfig",
            given,
            {
                "execution_mode": self._take_mode,
                "dbt_project_path": lambda value: self.decorator.update(project_dir=_as_text_of_path(value)),
                "dbt_executable_path": lambda value: self.set("cmds", f"[{_as_text_of_path(value)}]"),
                "install_dbt_deps": self._deps,
                "test_indirect_selection": _only("EAGER", "dbt build takes all tests of what it builds"),
                "invocation_mode": _drop,
                "virtualenv_dir": _drop,
                "async_py_requirements": _drop,
                "setup_operator_args": _only_none(
                    "pass these arguments to the decorator: they apply to the task that runs dbt"
                ),
            },
        )

    def of_render(self, given: Texts) -> None:
        """Take the arguments of RenderConfig."""
        sources = {
            "NONE": None,
            "ALL": ("sources", '"all"'),
            "WITH_TESTS_OR_FRESHNESS": ("freshness", '"before"'),
        }
        behaviors = {
            "AFTER_EACH": None,
            **{word: ("tests", f'"{word.lower()}"') for word in ("BUILD", "AFTER_ALL", "NONE")},
        }
        rules: dict[str, _Rule] = {
            **{name: self._keep(name) for name in ("select", "exclude", "selector")},
            "test_behavior": lambda value: self._one_of("test_behavior", value, behaviors),
            "source_rendering_behavior": lambda value: self._one_of(
                "source_rendering_behavior", value, sources
            ),
            "seed_rendering_behavior": _only(
                "ALWAYS", "exclude the seeds, or build them with the other nodes"
            ),
            "group_nodes_by_folder": self._switch("group_by", '"folder"'),
            "enable_owner_inheritance": self._switch("owners", '"meta"'),
            "emit_datasets": self._switch("assets", '"each"'),
            "node_converters": _only_none("see node_task, @dbt_node and isolate"),
            "normalize_task_id": _only_none("the id of a task is derived from its node"),
            "normalize_task_display_name": _only_none("see node_task, with task_display_name"),
        }
        for name in (
            "load_method", "invocation_mode", "dbt_deps", "node_conversion_by_task_group", "dbt_executable_path", "env_vars",
            "dbt_project_path", "dbt_ls_path", "enable_mock_profile", "source_pruning",
            "airflow_vars_to_purge_dbt_ls_cache", "airflow_vars_to_purge_dbt_yaml_selectors_cache",
            "should_detach_multiple_parents_tests", "ephemeral_models_as_empty_operator",
        ):  # fmt: skip
            rules[name] = _drop
        _take("RenderConfig", given, rules)

    def of_operator(self, given: Texts) -> None:
        """Take the items of operator_args."""
        rules: dict[str, _Rule] = {
            **{name: self._keep_build(name) for name in ("vars", "full_refresh", "fail_fast")},
            "install_deps": self._deps,
            "env": lambda value: self.set("env_vars", value),
            "models": lambda value: self.set("select", value),
            "project_dir": lambda value: self.decorator.update(project_dir=_as_text_of_path(value)),
            "dbt_executable_path": lambda value: self.set("cmds", f"[{_as_text_of_path(value)}]"),
            "warn_error": self._flag("--warn-error"),
            "no_version_check": self._flag("--no-version-check"),
            "cache_selected_only": self._flag("--cache-selected-only"),
            "partial_parse": self._partial_parse,
            "dbt_cmd_flags": self._more_flags,
            "dbt_cmd_global_flags": self._more_flags,
            "skip_exit_code": lambda value: self.set("skip_on_exit_code", value),
            "get_logs": _drop,
        }
        for name in (
            "append_env", "quiet", "log_format", "emit_datasets", "cancel_query_on_kill", "output_encoding", "cache_dir",
        ):  # fmt: skip
            rules[name] = _drop
        for name in (
            "arguments", "task_id", "trigger_rule", "interceptors", "extra_context", "indirect_selection", "conn_id", "db_name",
            "schema", "profile_config",
        ):  # fmt: skip
            rules[name] = _only_none("see docs/from-cosmos.md")
        for name in given.keys() - rules.keys():
            rules[name] = self._keep(name)
        _take("operator_args", given, rules)

    # Rules.

    def _keep(self, name: str) -> _Rule:
        return lambda value: self.set(name, value)

    def _keep_build(self, name: str) -> _Rule:
        return lambda value: self.set_build(name, value)

    def _switch(self, name: str, meant: str) -> _Rule:
        def rule(value: str) -> None:
            if _switched_on(value):
                self.set(name, meant)

        return rule

    def _flag(self, flag: str) -> _Rule:
        def rule(value: str) -> None:
            if _switched_on(value):
                self._flags.append(f'"{flag}"')

        return rule

    def _deps(self, value: str) -> None:
        if value != "None" and _switched_on(value):
            self.set("deps", "True")

    def _partial_parse(self, value: str) -> None:
        if not _switched_on(value):
            self._flags.append('"--no-partial-parse"')

    def _more_flags(self, value: str) -> None:
        try:
            words = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            words = None
        if not isinstance(words, list):
            raise Unknown(f"{value} is not a literal list of words")
        self._flags += [ast.unparse(ast.Constant(word)).replace("'", '"') for word in words]

    def _take_mode(self, value: str) -> None:
        self._mode = _member(value)

    def _one_of(self, name: str, value: str, meant: Mapping[str, tuple[str, str] | None]) -> None:
        member = _member(value)
        if member not in meant:
            raise Unknown(f"{name} is {value}")
        if (argument := meant[member]) is not None:
            self.set(*argument)


_Rule = Callable[[str], object]


def _take(where: str, given: Texts, rules: Mapping[str, _Rule]) -> None:
    for name, value in given.items():
        _obey(rules.get(name, _refuse), value, f"{name} of {where}")


def _obey(rule: _Rule, value: str, what: str) -> None:
    try:
        rule(value)
    except Unknown as error:
        raise Unknown(f"{what}: {error}") from None


def _refuse(_: str) -> None:
    raise Unknown("unknown argument")


def _drop(_: str) -> None:
    """Leave out what has no meaning here."""


def _only_none(instead: str) -> _Rule:
    return _only("None", instead)


def _only(allowed: str, instead: str) -> _Rule:
    def rule(value: str) -> None:
        if _member(value) != allowed:
            raise Unknown(f"{value} is not supported: {instead}")

    return rule


def _member(value: str) -> str:
    """Return the name of a member of an enumeration, such as `LoadMode.DBT_LS`."""
    return value.rpartition(".")[2]


def _switched_on(value: str) -> bool:
    if value not in {"True", "False"}:
        raise Unknown(f"{value} is not True or False")
    return value == "True"


def _as_text_of_path(value: str) -> str:
    """Return the text in `Path("...")`, which is what is taken here; any other expression as it is."""
    try:
        call = ast.parse(value, mode="eval").body
    except SyntaxError:
        return value
    match call:
        case ast.Call(func=ast.Name(id="Path"), args=[ast.Constant(value=str(text))]):
            return f'"{text}"'
    return value


def _directory(value: str) -> str:
    """Return the directory of a profiles.yml."""
    try:
        path = ast.literal_eval(_as_text_of_path(value))
    except (ValueError, SyntaxError):
        path = None
    if not isinstance(path, str) or PurePosixPath(path).name != "profiles.yml":
        raise Unknown(
            f"{value} is not a literal path that ends with profiles.yml; pass its directory as profiles_dir"
        )
    return f'"{PurePosixPath(path).parent}"'
