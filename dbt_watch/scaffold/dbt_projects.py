"""
A dbt project as it lies on the disk: where it is, and what an image of it needs. Called by `scaffold.command`.

Neither dbt nor a manifest is needed: what is read is dbt_project.yml, profiles.yml, the files of packages, and the manifest if there
is one.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from dbt_watch.exceptions import ArgumentError

PROJECT_FILE: Final = "dbt_project.yml"
PROFILES_FILE: Final = "profiles.yml"
PACKAGES_FILES: Final = ("packages.yml", "dependencies.yml")

_NO_PLACE_FOR_PROJECTS: Final = frozenset(
    {"dbt_packages", "dbt_modules", "node_modules", "site-packages", "target"}
)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ADAPTER: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
# What is no special character in a shell's quotes, in YAML, in a Dockerfile or in a workflow's expressions and globs.
_PLAIN_PATH: Final = re.compile(r"[\w ./@-]+", re.ASCII)
# `env_var('NAME')` alone: where there is a default, dbt does without the variable.
_ENV_VAR: Final = re.compile(r"""env_var\(\s*(['"])([A-Za-z_]\w*)\1\s*\)""", re.ASCII)
_COMPARISON: Final = re.compile(r"(>=|<=|!=|>|<|=)?\s*(\d+(?:\.\w+)*)", re.ASCII)


@dataclass(frozen=True)
class DbtProjectFiles:
    """
    What is known of a project.

    :ivar directory: where dbt_project.yml is
    :ivar name: of the project, an identifier
    :ivar target_path: where dbt writes the manifest, relative to the directory
    :ivar adapter: dbt's adapter, such as `postgres`
    :ivar dbt_versions: which dbt-core is to be installed, as pip wants it
    :ivar has_profile: whether the profile is in the project's own profiles.yml
    :ivar env_vars: what the project's files read from the environment, and have no default for
    :ivar has_packages: whether `dbt deps` is needed
    :ivar has_git_packages: whether it needs git
    """

    directory: Path
    name: str
    target_path: str
    adapter: str
    dbt_versions: str
    has_profile: bool
    env_vars: tuple[str, ...]
    has_packages: bool
    has_git_packages: bool


def find_project(root: Path, chosen: str | None) -> Path:
    """
    Return the directory of the one dbt project in a directory or below it.

    :param chosen: which one, relative to `root`, where the user has said it
    :raises ArgumentError: when there is none, or more than one
    """
    if chosen is not None:
        directory = root / chosen
        if not (directory / PROJECT_FILE).is_file():
            raise ArgumentError("--project", chosen, f"a directory with a {PROJECT_FILE}, relative to {root}")
        return _checked_place(directory, root)
    found = _projects_in(root)
    if not found:
        raise ArgumentError("directory", str(root), f"a dbt project, a {PROJECT_FILE} there or below")
    if len(found) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise ArgumentError("--project", None, f"one of the dbt projects below {root}: {names}")
    return _checked_place(found[0], root)


def _projects_in(root: Path) -> list[Path]:
    found = []
    for directory, below, files in os.walk(root):
        if PROJECT_FILE in files:
            found.append(Path(directory))
            below.clear()  # tests and packages of the project
        below[:] = sorted(
            name for name in below if not name.startswith(".") and name not in _NO_PLACE_FOR_PROJECTS
        )
    return found


def _checked_place(directory: Path, root: Path) -> Path:
    try:
        place = directory.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise ArgumentError("--project", str(directory), f"a directory in {root}") from None
    if not _PLAIN_PATH.fullmatch(place):
        raise ArgumentError(
            "project",
            place,
            "a path of letters, digits, spaces, and `.`, `_`, `-`, `@`: it is written into files of other tools",
        )
    return root / place


def read_project(directory: Path, *, adapter: str | None, home: Path) -> DbtProjectFiles:
    """
    Read what an image of a project needs.

    :param directory: where dbt_project.yml is
    :param adapter: dbt's adapter, where the user has said it
    :param home: the user's directory, in which dbt looks for profiles too
    :raises ArgumentError: when a file cannot be understood, or nothing tells the adapter
    """
    project = _mapping(directory / PROJECT_FILE)
    name = project.get("name")
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ArgumentError(
            f"name in {PROJECT_FILE}", name, "letters, digits and underscores, not beginning with a digit"
        )
    target_path = project.get("target-path")
    if not (isinstance(target_path, str) and _PLAIN_PATH.fullmatch(target_path)) or target_path.startswith(
        "/"
    ):
        target_path = "target"  # dbt's own; what is elsewhere or has a template is known only where dbt runs
    profile_name = project.get("profile", name)
    own = _profile(directory / PROFILES_FILE, profile_name)
    manifest = _metadata(directory / target_path / "manifest.json")
    packages = [_text(directory / file) for file in PACKAGES_FILES if _lists_packages(directory / file)]
    return DbtProjectFiles(
        directory=directory,
        name=name,
        target_path=target_path,
        adapter=adapter
        or _adapter_of(own or _profile(home / ".dbt" / PROFILES_FILE, profile_name))
        or _adapter_of_manifest(manifest)
        or _no_adapter(profile_name),
        dbt_versions=_versions_of(manifest) or _versions(project.get("require-dbt-version")) or ">=1.8,<2",
        has_profile=own is not None,
        env_vars=tuple(dict.fromkeys(_variables(directory, with_profile=own is not None))),
        has_packages=bool(packages),
        has_git_packages=any(
            re.search(r"^\s*-?\s*[\"']?git[\"']?\s*:", text, re.MULTILINE) for text in packages
        ),
    )


def check_adapter(adapter: str) -> str:
    """Return the name of an adapter, or raise ArgumentError."""
    if not _ADAPTER.fullmatch(adapter):
        raise ArgumentError("--adapter", adapter, "the `type` of a dbt profile, such as postgres")
    return adapter


def _no_adapter(profile_name: object) -> str:
    raise ArgumentError(
        "--adapter",
        None,
        f"the `type` of the profile {profile_name!r}, such as postgres: it is neither in the project's {PROFILES_FILE}"
        f" nor in ~/.dbt/{PROFILES_FILE}",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(path.name, str(path), f"a file in UTF-8: {error}") from None


def _mapping(path: Path) -> dict[Any, Any]:
    try:
        read = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise ArgumentError(path.name, str(path), f"YAML: {' '.join(str(error).split())}") from None
    if not isinstance(read, dict):
        raise ArgumentError(path.name, str(path), "a mapping in YAML")
    return read


def _profile(path: Path, name: object) -> dict[Any, Any] | None:
    """Return a profile of a file, if both are there."""
    if not path.is_file():
        return None
    profile = _mapping(path).get(name)
    return profile if isinstance(profile, dict) else None


def _adapter_of(profile: dict[Any, Any] | None) -> str | None:
    """Return the adapter of a profile: that of its target, or what all of its outputs have."""
    outputs = profile.get("outputs") if profile else None
    if not isinstance(outputs, dict):
        return None
    types = {key: output.get("type") for key, output in outputs.items() if isinstance(output, dict)}
    target = profile.get("target", "default") if profile else None
    chosen = types.get(target) if isinstance(target, str) else None
    if chosen is None and len(set(map(str, types.values()))) == 1:
        chosen = next(iter(types.values()))
    return chosen if isinstance(chosen, str) and _ADAPTER.fullmatch(chosen) else None


def _metadata(manifest: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(manifest.read_bytes()).get("metadata")
    except (OSError, ValueError, AttributeError):
        return {}  # none was made yet, or another dbt makes it anew
    return metadata if isinstance(metadata, dict) else {}


def _adapter_of_manifest(metadata: dict[str, Any]) -> str | None:
    adapter = metadata.get("adapter_type")
    return adapter if isinstance(adapter, str) and _ADAPTER.fullmatch(adapter) else None


def _versions_of(metadata: dict[str, Any]) -> str | None:
    """Return the versions of dbt-core like the one that wrote a manifest."""
    made_by = re.match(r"(1\.\d+)\.", str(metadata.get("dbt_version")))
    return f"=={made_by[1]}.*" if made_by else None


def _versions(required: object) -> str | None:
    """Return dbt's `require-dbt-version` as pip wants it."""
    parts = required if isinstance(required, list) else [required]
    found = []
    for part in (piece for text in parts for piece in str(text).split(",")):
        comparison = _COMPARISON.fullmatch(part.strip())
        if comparison is None:
            return None
        sign, version = comparison.groups()
        found.append(f"{'==' if sign in {None, '='} else sign}{version}")
    return ",".join(found)


def _lists_packages(path: Path) -> bool:
    return path.is_file() and bool(_mapping(path).get("packages"))


def _variables(directory: Path, *, with_profile: bool) -> list[str]:
    files = [PROJECT_FILE, PROFILES_FILE] if with_profile else [PROJECT_FILE]
    return [name for file in files for _, name in _ENV_VAR.findall(_text(directory / file))]
