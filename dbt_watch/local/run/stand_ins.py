"""
What stands for an image: a dbt project of this machine, and the virtual environment whose dbt builds it.

`--image NAME=PROJECT[,VENV]` and `[tool.dbt_watch.images]` say so. `command` reads both, `preparation` makes localkube's images of them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube import Image
from dbt_watch.local.localkube.images import full_name, valid_name
from dbt_watch.local.run.pyproject import check_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dbt_watch.local.localkube import Mount
    from dbt_watch.local.run.pyproject import Pyproject

OPTION: Final = "--image"
PROJECT_FILE: Final = "dbt_project.yml"
DEFAULT_PLACE: Final = "/usr/app"
"""Where a project is mounted of which nobody says where it is in the image."""

_FORM: Final = "NAME=PROJECT[,VENV], or NAME=,VENV for an image without a dbt project"
_KEYS: Final = ("project", "venv", "mount", "env", "entrypoint")
_PROJECT_NAME: Final = re.compile(r"^name\s*:\s*['\"]?([\w-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StandIn:
    """
    What stands for one image.

    :ivar image: its name, as pods write it
    :ivar argument: what said so, for messages
    :ivar project: the directory of a dbt project; None for an image that has none
    :ivar venv: the virtual environment whose programs come first on PATH
    :ivar mount: where the project is in the image; None for where the DAG looks for it
    :ivar env: more environment variables of the image
    :ivar entrypoint: of the image
    """

    image: str
    argument: str
    project: Path | None
    venv: Path
    mount: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()

    def as_image(self, mount: str | None, shares: Mapping[str, Mount]) -> Image:
        """
        Return it as localkube takes it.

        :param mount: where the project goes; None where there is none
        :param shares: what else its containers find, by its place there
        """
        mounts: dict[str, str | os.PathLike[str] | Mount] = dict(shares)
        env = self.env
        if self.project is not None and mount is not None:
            mounts[mount] = self.project
            # What dbt has kept in `target` may name files as they were seen from the directory in which it was called.
            env = {"DBT_PARTIAL_PARSE": "false", **env}
        return Image(
            venv=self.venv,
            mounts=mounts,
            env=env,
            entrypoint=self.entrypoint,
            workdir=mount or "/",
        )


def stand_ins(options: Sequence[str], pyproject: Pyproject) -> dict[str, StandIn]:
    """
    Return what stands for images, by their names in full; the command line wins.

    :param options: the values of `--image`
    :param pyproject: relative paths in it start from its own directory
    :raises ArgumentError: for what cannot stand for an image, with the argument that says so
    """
    found: dict[str, StandIn] = {}
    for name, value in pyproject.images.items():
        argument = pyproject.key("images", f'"{name}"')
        _add(found, _of_table(argument, name, value, pyproject.directory))
    of_options: dict[str, StandIn] = {}
    for text in options:
        name, separator, places = text.partition("=")
        if not (name and separator and places):
            raise ArgumentError(OPTION, text, _FORM)
        _add(of_options, _of_table(OPTION, name, places, Path.cwd(), shown=text))
    return found | of_options


def project_name(project: Path) -> str | None:
    """Return the name that a project's own file gives it; None where none is to be read."""
    try:
        found = _PROJECT_NAME.search((project / PROJECT_FILE).read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[1] if found else None


def default_venv() -> Path | None:
    """Return the environment whose dbt a shell would find, or else the one that runs this, if it has dbt."""
    on_path = shutil.which("dbt")
    if on_path is not None:
        # What lies on PATH may be a link into an environment, as pipx makes them.
        places = [Path(on_path).absolute(), Path(on_path).resolve()]
        prefixes = [place.parent.parent for place in places if place.parent.name == "bin"]
        found = next((prefix for prefix in prefixes if (prefix / "pyvenv.cfg").is_file()), None)
        if found is not None or prefixes:
            return found or prefixes[0]
    return Path(sys.prefix) if _has_dbt(Path(sys.prefix)) else None


def _add(found: dict[str, StandIn], one: StandIn) -> None:
    key = full_name(one.image)
    if key in found:
        raise ArgumentError(
            one.argument, one.image, f"each image once, and {found[key].image} is given twice"
        )
    found[key] = one


def _of_table(argument: str, image: str, value: Any, directory: Path, *, shown: str | None = None) -> StandIn:
    if not valid_name(image):
        raise ArgumentError(argument, shown or image, "the name of an image, as the DAG writes it")
    if isinstance(value, str):
        project, _, venv = value.partition(",")
        value = {name: text for name, text in (("project", project), ("venv", venv)) if text}
    if not isinstance(value, dict):
        raise ArgumentError(argument, value, "the path of a dbt project, or a table")
    check_keys(argument, value, _KEYS)
    for name, kind, what in (
        ("project", str, "the path of a dbt project"),
        ("venv", str, "the path of a virtual environment"),
        ("mount", str, "an absolute path inside the container"),
        ("env", dict, "a table of text values"),
        ("entrypoint", list, "a list of text values"),
    ):
        given = value.get(name)
        if given is not None and not isinstance(given, kind):
            raise ArgumentError(f"{argument}.{name}", given, what)
    project_path = _project(argument, value.get("project"), directory)
    return StandIn(
        image=image,
        argument=argument,
        project=project_path,
        venv=_venv(argument, value.get("venv"), directory, needs_dbt=project_path is not None),
        mount=_mount(argument, value.get("mount")),
        env=_texts(f"{argument}.env", value.get("env", {})),
        entrypoint=_words(argument, value.get("entrypoint"), has_project=project_path is not None),
    )


def _project(argument: str, text: str | None, directory: Path) -> Path | None:
    if text is None:
        return None
    path = directory / Path(text).expanduser()
    if not path.is_dir():
        raise ArgumentError(argument, str(path), "an existing directory of a dbt project")
    if not (path / PROJECT_FILE).is_file():
        raise ArgumentError(argument, str(path), f"the directory of a dbt project, with a {PROJECT_FILE}")
    return path.resolve()


def _venv(argument: str, text: str | None, directory: Path, *, needs_dbt: bool) -> Path:
    if text is None:
        found = default_venv()
        if found is None and needs_dbt:
            raise ArgumentError(
                argument, None, "a virtual environment with dbt after a comma: there is no dbt on PATH"
            )
        return found or Path(sys.prefix)
    # Not resolved: what makes it a virtual environment is the path by which it is entered.
    path = Path(os.path.abspath(directory / Path(text).expanduser()))  # noqa: PTH100 - pathlib would follow links
    if not (path / "bin").is_dir():
        raise ArgumentError(argument, str(path), "a virtual environment, with a directory `bin`")
    if needs_dbt and not _has_dbt(path):
        raise ArgumentError(argument, str(path), "a virtual environment with dbt: it has no `bin/dbt`")
    return path


def _mount(argument: str, text: str | None) -> str | None:
    if text is not None and (not text.startswith("/") or text == "/" or ".." in text.split("/")):
        raise ArgumentError(f"{argument}.mount", text, "an absolute path inside the container")
    return None if text is None else text.rstrip("/")


def _words(argument: str, words: Any, *, has_project: bool) -> tuple[str, ...]:
    if words is None:
        return ("dbt",) if has_project else ()
    if not all(isinstance(word, str) for word in words):
        raise ArgumentError(f"{argument}.entrypoint", words, "a list of text values")
    return tuple(words)


def _texts(argument: str, table: Mapping[str, Any]) -> dict[str, str]:
    for name, value in table.items():
        if not isinstance(value, str):
            raise ArgumentError(f"{argument}.{name}", value, "a text")
    return dict(table)


def _has_dbt(prefix: Path) -> bool:
    return (prefix / "bin" / "dbt").exists()
