"""
The files that `dbt-watch init` writes, made of the templates in `scaffold/templates`. Called by `scaffold.command`.

A template has `@@{name}` for a value, and lines between `@@if name` and `@@end` that are there only where the value is true.
"""

from __future__ import annotations

import json
import keyword
import posixpath
import re
import string
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.scaffold.dbt_projects import DbtProjectFiles

CI: Final = {
    "github": (".github/workflows/dbt-image.yml", "github.yml"),
    "gitlab": (".gitlab-ci.yml", "gitlab.yml"),
}
"""The kinds of CI: where the file goes, and its template."""

_IMAGE: Final = re.compile(
    r"(?P<repository>(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?",
    re.ASCII,
)
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_DAG_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,250}", re.ASCII)
_TAKEN: Final = frozenset(
    {"build", "dag", "datetime", "dbt_k8s_project", "timezone"}
)  # names in the DAG file


class _Template(string.Template):
    delimiter = "@@"


@dataclass(frozen=True)
class ImageName:
    """
    The name of the image of a project.

    :ivar repository: its name without the tag
    :ivar registry: where it is pushed to; None where its name has none
    """

    repository: str
    tag: str
    registry: str | None

    @classmethod
    def of(cls, given: str | None, project_name: str) -> ImageName:
        """
        Return the image of an option, or the one that is named after the project.

        :raises ArgumentError: when it is no name of an image
        """
        if given is None:
            given = f"{re.sub('_+', '-', project_name.lower()).strip('-') or 'project'}-dbt"
        parts = _IMAGE.fullmatch(given)
        if parts is None:
            raise ArgumentError("--image", given, "an image name with a tag: registry.example/shop-dbt:1.4")
        first, slash, _ = parts["repository"].partition("/")
        registry = first if slash and (first == "localhost" or "." in first or ":" in first) else None
        return cls(parts["repository"], parts["tag"] or "latest", registry)

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True)
class Choices:
    """What the files of a project say, beside what the project says itself; each value is checked."""

    image: ImageName
    namespace: str
    dag_id: str

    @classmethod
    def of(cls, project_name: str, *, image: str | None, namespace: str, dag_id: str | None) -> Choices:
        """
        Check what the user has chosen.

        :raises ArgumentError: naming the option
        """
        if not _NAMESPACE.fullmatch(namespace):
            raise ArgumentError(
                "--namespace", namespace, "the name of a namespace: lowercase letters, digits and `-`"
            )
        if dag_id is not None and not _DAG_ID.fullmatch(dag_id):
            raise ArgumentError(
                "--dag-id", dag_id, "letters, digits, and `.`, `_`, `-`, at most 250 characters"
            )
        return cls(ImageName.of(image, project_name), namespace, dag_id or project_name)


def project_files(project: DbtProjectFiles, place: str, choices: Choices, ci: str) -> dict[str, str]:
    """
    Return the files of a project: path, relative to where they are written, -> text.

    :param place: the directory of the project, relative to the same; `.` for that itself
    :param ci: a key of `CI`
    """
    values = _values(project, place, choices)
    ci_path, ci_template = CI[ci]
    return {
        f"dags/{project.name}_dag.py": _filled("dag.py", values),
        posixpath.normpath(f"{place}/Dockerfile"): _filled("Dockerfile", values),
        posixpath.normpath(f"{place}/.dockerignore"): _filled("dockerignore", values),
        ci_path: _filled(ci_template, values),
    }


def _values(project: DbtProjectFiles, place: str, choices: Choices) -> dict[str, Any]:
    image = choices.image
    function = (
        project.name
        if project.name not in _TAKEN and not keyword.iskeyword(project.name)
        else f"dbt_{project.name}"
    )
    watched = "**" if place == "." else f"{place}/**"
    return {
        "name": project.name,
        "function": function,
        "dag_id": "" if function == choices.dag_id else choices.dag_id,
        "manifest": json.dumps(posixpath.normpath(f"../{place}/{project.target_path}/manifest.json")),
        "image": str(image),
        "namespace": choices.namespace,
        "workdir": f"/usr/app/{project.name}",
        "target_path": project.target_path,
        "place": json.dumps(place),
        "watched": json.dumps(watched),
        "adapter": project.adapter,
        "requirements": f'"dbt-core{project.dbt_versions}" "dbt-{project.adapter.replace("_", "-")}"',
        "git": project.has_git_packages,
        "deps": project.has_packages,
        "own_profile": project.has_profile,
        "no_profile": not project.has_profile,
        "env_vars": ", ".join(project.env_vars),
        "stand_ins": "".join(f"{name}={_stand_in(name)} " for name in project.env_vars),
        "registry": image.registry or "",
        "no_registry": image.registry is None,
        "repository": image.repository,
        "tag": image.tag,
        "secret": "" if project.has_profile else "--secret id=profiles,env=DBT_PROFILES ",
    }


def _stand_in(variable: str) -> str:
    # A number may be wanted. But what dbt takes for a secret it strikes out wherever it occurs in its log.
    return "stand-in" if variable.startswith("DBT_ENV_SECRET_") else "0"


def _filled(template: str, values: Mapping[str, Any]) -> str:
    source = files("dbt_watch.scaffold") / "templates" / f"{template}.template"
    lines, wanted = [], True
    for line in source.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("@@if "):
            wanted = bool(values[line.split()[1]])
        elif line.startswith("@@end"):
            wanted = True
        elif wanted:
            lines.append(line)
    return _Template("".join(lines)).substitute(values)
