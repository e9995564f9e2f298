"""
What may run where no PID namespace can be had, and how paths are made to fit.

A command runs only when its program is a part of the image itself: a file in the image's directories, or the
interpreter of its virtual environment. A host's program (`sh`, `/bin/...`) is refused with the reason. Image mounts
and volumes cannot be put at their paths, so those paths are replaced by the host's in the arguments, the environment
and the working directory. Called by `containers`.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dbt_watch.local.localkube.isolation import BoundPath, CannotCreateError, Command, MountMode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbt_watch.local.localkube.images import Image

_INTERPRETER = re.compile(r"^(python[0-9.]*|pypy[0-9.]*)$")
# What installers write when the path of the interpreter is too long for a `#!` line.
_TRAMPOLINE = re.compile(rb"""^#!/bin/sh\n'''exec' ["']?([^"'\n]+)["']? "\$0" "\$@"\n""")
_HEADER = 4096


@dataclass(frozen=True, slots=True)
class PathTable:
    """Where the paths of a container are on the host, innermost first."""

    entries: Sequence[tuple[str, Path]]

    @classmethod
    def prepare(cls, mounts: Sequence[BoundPath], directory: Path) -> PathTable:
        """
        Make the private copies of image mounts, and the table.

        :param directory: where to put the copies
        """
        entries = []
        for number, bound in enumerate(mounts):
            source = bound.source
            if bound.mode is MountMode.PRIVATE:
                source = directory / f"mount-{number}"
                if bound.source.is_dir():
                    shutil.copytree(bound.source, source, symlinks=True)
                else:
                    shutil.copy2(bound.source, source)
            entries.append((bound.target.rstrip("/"), source))
        return cls(sorted(entries, key=lambda entry: len(entry[0]), reverse=True))

    def translate(self, text: str) -> str:
        """Replace every path of the container in a text that is a whole path or the beginning of one."""
        for target, source in self.entries:
            # A backslash in the replacement would be read as an escape.
            replacement = str(source).replace("\\", "\\\\")
            text = re.sub(rf"(?<![\w./-]){re.escape(target)}(?=/|$|[^\w.-])", replacement, text)
        return text

    def locate(self, path: str) -> Path | None:
        """Return the host's path of a file inside one of the mounts, None when it is in none."""
        for target, source in self.entries:
            if path.startswith(f"{target}/"):
                found = Path(os.path.realpath(source / path[len(target) + 1 :]))
                return found if found.is_relative_to(os.path.realpath(source)) else None
        return None

    def command(self, command: Command) -> Command:
        """Return a command with all paths replaced."""
        directory = self.translate(command.cwd)
        return Command(
            [self.translate(part) for part in command.argv],
            {name: self.translate(value) for name, value in command.env.items()},
            directory,
        )


def permitted(command: Command, image: Image) -> Command:
    """
    Return a command whose program is a part of the image, by its full path.

    :raises CannotCreateError: the program belongs to the host, or is not there
    """
    name = command.argv[0]
    program = _find(name, image)
    if program is None:
        raise CannotCreateError(
            f'exec: "{name}": not a program of the image itself; without PID namespaces localkube runs nothing else'
        )
    return Command([*_with_interpreter(program, image), *command.argv[1:]], command.env, command.cwd)


def _find(name: str, image: Image) -> Path | None:
    candidates = [Path(name)] if "/" in name else [place / name for place in image.program_directories]
    for path in candidates:
        if path.is_file() and os.access(path, os.X_OK) and _belongs(path, image):
            return Path(os.path.realpath(path.parent)) / path.name
    return None


def _belongs(path: Path, image: Image) -> bool:
    """Whether a file lies in the image; the interpreter of a virtual environment may be a link to the host's."""
    inside = [Path(os.path.realpath(root)) for root in image.roots]
    places = [Path(os.path.realpath(path))]
    if _INTERPRETER.match(path.name) and image.venv is not None:
        places.append(Path(os.path.realpath(path.parent)) / path.name)
        own = Path(os.path.realpath(image.venv)) / "bin"
        return any(place.parent == own for place in places)
    return any(place.is_relative_to(root) for place in places for root in inside)


def _with_interpreter(program: Path, image: Image) -> list[str]:
    """Return the start of the argument list; a script whose interpreter is the host's is refused."""
    with program.open("rb") as file:
        header = file.read(_HEADER)
    if not header.startswith(b"#!"):
        return [str(program)]
    if match := _TRAMPOLINE.match(header):
        # Its shell would only start the interpreter, so it is left out.
        interpreter = [match.group(1).decode(errors="replace")]
    else:
        interpreter = header.partition(b"\n")[0][2:].decode(errors="replace").split(maxsplit=1)
    if not interpreter or not _belongs(Path(interpreter[0]), image):
        raise CannotCreateError(
            f'exec: "{program.name}": its interpreter is not a program of the image itself; '
            "without PID namespaces localkube runs nothing else"
        )
    return [*interpreter, str(program)]
