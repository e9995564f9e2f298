"""
What a pod's `image:` stands for on this machine: `Image`, `Mount`, and the table that finds one by name.

Written by users of `LocalKube`, read by `containers` when a container starts.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube.isolation import BoundPath, MountMode

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The image of the XCom sidecar that KubernetesPodOperator adds; its command needs only a shell.
SIDECAR_REPOSITORY = "alpine"
# Stands for every name that is not among the images.
ANY_NAME = "*"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.:_-]*(/[a-z0-9][a-z0-9._-]*)*(:[\w][\w.-]{0,127})?(@[\w:+.-]+)?$")


@dataclass(frozen=True, slots=True)
class Mount:
    """
    A host file or directory that an image shows at a path of its own.

    :ivar source: what to show
    :ivar shared: False gives each container a copy of its own, so that a run alters nothing on the host;
        True lets it write to the host, for instance for a duckdb file that is to survive the pod
    """

    source: str | os.PathLike[str]
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """
    What a container of this image finds.

    :ivar venv: a virtual environment; its programs come first on PATH
    :ivar directory: a directory whose `bin`, or which itself, holds programs; they come first on PATH
    :ivar mounts: absolute path in the container -> what is shown there
    :ivar env: environment variables; a pod's own come on top
    :ivar entrypoint: the command when the pod gives none
    :ivar cmd: the arguments when the pod gives neither command nor arguments
    :ivar workdir: where the command starts when the pod does not say
    :ivar stop_signal: what asks its process to end, as `STOPSIGNAL` of a Dockerfile
    :raises ArgumentError: a path that does not exist, or that is not absolute where it must be
    """

    venv: str | os.PathLike[str] | None = None
    directory: str | os.PathLike[str] | None = None
    mounts: Mapping[str, str | os.PathLike[str] | Mount] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    workdir: str = "/"
    stop_signal: signal.Signals = signal.SIGTERM

    def __post_init__(self) -> None:
        if self.venv is not None and not (Path(self.venv) / "bin").is_dir():
            raise ArgumentError("venv", str(self.venv), "a virtual environment, with a directory `bin`")
        if self.directory is not None and not Path(self.directory).is_dir():
            raise ArgumentError("directory", str(self.directory), "a directory")
        for target, source in self.mounts.items():
            if not target.startswith("/") or target == "/" or ".." in target.split("/"):
                raise ArgumentError("mounts", target, "an absolute path inside the container")
            path = source.source if isinstance(source, Mount) else source
            if not Path(path).exists():
                raise ArgumentError("mounts", str(path), "a file or directory that exists")
        for name in ("entrypoint", "cmd"):
            if isinstance(getattr(self, name), str):
                raise ArgumentError(name, getattr(self, name), "a list of arguments, not one string")

    @property
    def program_directories(self) -> list[Path]:
        """The image's own directories of programs, in the order of PATH."""
        directories = []
        if self.venv is not None:
            directories.append(Path(self.venv).absolute() / "bin")
        if self.directory is not None:
            own = Path(self.directory).absolute()
            directories += [path for path in (own / "bin", own) if path.is_dir()]
        return directories

    @property
    def roots(self) -> list[Path]:
        """The directories that are the image: what a program must lie in to be a part of it."""
        return [Path(path).absolute() for path in (self.venv, self.directory) if path is not None]

    def environment(self) -> dict[str, str]:
        """Return the variables that a container starts with."""
        path = ":".join([*map(str, self.program_directories), SYSTEM_PATH])
        variables = {"PATH": path}
        if self.venv is not None:
            variables["VIRTUAL_ENV"] = str(Path(self.venv).absolute())
        return {**variables, **self.env}

    def bound_paths(self) -> list[BoundPath]:
        """Return the mounts, outermost first."""
        bound = []
        for target in sorted(self.mounts):
            source = self.mounts[target]
            mount = source if isinstance(source, Mount) else Mount(source)
            mode = MountMode.SHARED if mount.shared else MountMode.PRIVATE
            bound.append(BoundPath(Path(mount.source).absolute(), target, mode))
        return bound


class Images:
    """
    Images by name.

    :param images: name as pods write it, or `*` for every other one -> the image, or just the path of its virtual
        environment or directory
    """

    def __init__(self, images: Mapping[str, Image | str | os.PathLike[str]]) -> None:
        self._images: Mapping[str, Image] = {}
        self.replace(images)

    def replace(self, images: Mapping[str, Image | str | os.PathLike[str]]) -> None:
        """Have other images; containers that run already keep theirs."""
        self._images = MappingProxyType(
            {full_name(name): as_image(name, image) for name, image in images.items()}
        )

    def find(self, name: str) -> Image | None:
        """Return the image of that name, or None: it cannot be pulled."""
        found = self._images.get(full_name(name))
        if found is None and _repository(full_name(name)) == _repository(full_name(SIDECAR_REPOSITORY)):
            return Image(cmd=["/bin/sh"])
        return found if found is not None else self._images.get(full_name(ANY_NAME))


def valid_name(name: str) -> bool:
    """Whether a registry could have an image of that name."""
    return _NAME.match(name) is not None


def as_image(name: str, image: Image | str | os.PathLike[str]) -> Image:
    """
    Return an image for what stands for one.

    :param name: for the message of the error
    :raises ArgumentError: it is neither an `Image` nor the path of a directory
    """
    if isinstance(image, Image):
        return image
    path = Path(image)
    if not path.is_dir():
        raise ArgumentError("images", f"{name}={image}", "an Image, a virtual environment or a directory")
    return Image(venv=path) if (path / "pyvenv.cfg").is_file() else Image(directory=path)


def full_name(name: str) -> str:
    """Return a name with what may be left out of it: the tag `latest` and the default registry."""
    for prefix in ("docker.io/library/", "docker.io/"):
        name = name.removeprefix(prefix)
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"


def _repository(name: str) -> str:
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]
