"""
`dbt-watch init`: writes the first DAG of a dbt project, the Dockerfile of its image, and a CI workflow. Called by `dbt_watch.cli`.

Exit status: 0; 1 when a file was there already, and was kept; 2 when nothing could be made.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbt_watch.exceptions import ArgumentError
from dbt_watch.scaffold.dbt_projects import check_adapter, find_project, read_project
from dbt_watch.scaffold.files import CI, Choices, project_files
from dbt_watch.scaffold.image_table import lines_for, with_image

if TYPE_CHECKING:
    import argparse

    from dbt_watch.scaffold.dbt_projects import DbtProjectFiles

DESCRIPTION: Final = """\
Write the first files for a dbt project that Airflow runs in a pod: a DAG,
a Dockerfile, and a CI workflow that builds the image and the manifest
from one commit.

The project is found in the directory or below it. Existing files are not
overwritten without --force.

Exit status: 0; 1 if an existing file differs and was kept; 2 if nothing
could be written.
"""
EXAMPLE: Final = "dbt-watch init --image registry.example/shop-dbt:1.0 --namespace dbt"

KEPT: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "directory",
        nargs="?",
        default=".",
        metavar="DIRECTORY",
        help="where the files go (default: the current directory)",
    )
    parser.add_argument("--project", metavar="DIR", help="the dbt project, if there are several")
    parser.add_argument(
        "--image", metavar="NAME[:TAG]", help="the image for the pods (default: PROJECT-dbt:latest)"
    )
    parser.add_argument(
        "--namespace", default="default", metavar="NAME", help="where the pods go (default: %(default)s)"
    )
    parser.add_argument("--dag-id", metavar="ID", help="the id of the DAG (default: the name of the project)")
    parser.add_argument(
        "--adapter", metavar="TYPE", help="dbt's adapter (default: what profiles.yml or the manifest says)"
    )
    parser.add_argument(
        "--ci", choices=sorted(CI), default="github", help="which CI system (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.add_argument("--dry-run", action="store_true", help="print the files and write nothing")


def run(args: argparse.Namespace) -> int:
    """
    Write the files, or print them.

    :param args: what `add_arguments` has asked for
    :returns: the exit status
    :raises ArgumentError: when there is not one project, or an option or a file of it is wrong
    """
    root = Path(args.directory)
    if not root.is_dir():
        raise ArgumentError("directory", args.directory, "a directory")
    adapter = None if args.adapter is None else check_adapter(args.adapter)
    directory = find_project(root, args.project)
    project = read_project(directory, adapter=adapter, home=Path.home())
    choices = Choices.of(project.name, image=args.image, namespace=args.namespace, dag_id=args.dag_id)
    place = directory.relative_to(root).as_posix()
    texts = project_files(project, place, choices, args.ci)
    if args.dry_run:
        for path, text in texts.items():
            sys.stdout.write(f"----- {path} -----\n{text}\n")
        _say_table(str(choices.image), place)
        return 0
    kept = [path for path, text in texts.items() if not _write(root, path, text, force=args.force)]
    _add_image(root / "pyproject.toml", str(choices.image), place)
    _say_what_is_next(root, project, place, choices)
    return KEPT if kept else 0


def _write(root: Path, path: str, text: str, *, force: bool) -> bool:
    """Write a file; return whether it holds the text now."""
    file = root / path
    try:
        if file.is_file() and file.read_bytes() == text.encode():
            _say(f"unchanged  {path}")
            return True
        if not file.parent.is_dir():
            file.parent.mkdir(parents=True)
        with file.open("w" if force else "x", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    except FileExistsError as error:
        if error.filename != str(file):
            raise ArgumentError(
                "directory", str(root), f"a directory in which {error.filename} is a directory, not a file"
            ) from None
        _say(
            f"kept       {path}: a different file exists; --force overwrites it, --dry-run shows the new one"
        )
        return False
    except OSError as error:
        raise ArgumentError(
            "directory", str(root), f"a directory in which {path} can be written: {error}"
        ) from None
    _say(f"written    {path}")
    return True


def _add_image(pyproject: Path, image: str, place: str) -> None:
    try:
        text = pyproject.read_text(encoding="utf-8")
    except FileNotFoundError:
        _say_table(image, place)
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError("pyproject.toml", str(pyproject), f"a file in UTF-8: {error}") from None
    changed = with_image(text, image, place)
    if changed is None:
        _say_table(image, place)
    elif changed == text:
        _say("unchanged  pyproject.toml")
    else:
        with pyproject.open("a", encoding="utf-8", newline="\n") as opened:
            opened.write(changed[len(text) :])
        _say("extended   pyproject.toml")


def _say_table(image: str, place: str) -> None:
    _say(f"\nFor `dbt-watch run`, in pyproject.toml:\n\n{lines_for(image, place)}")


def _say_what_is_next(root: Path, project: DbtProjectFiles, place: str, choices: Choices) -> None:
    quoted = shlex.quote(place)
    profiles = f" --profiles-dir {quoted}" if project.has_profile and place != "." else ""
    where = f" --project-dir {quoted}" if place != "." else ""
    secret = "" if project.has_profile else ' --secret id=profiles,src="$HOME/.dbt/profiles.yml"'
    here = "" if root == Path() else f", in {shlex.quote(str(root))}"
    _say(
        f"\nNext{here}:\n"
        f"  dbt parse{where}{profiles}\n"
        f"  dbt-watch run dags/{project.name}_dag.py\n"
        f"  docker build --tag {choices.image}{secret} {quoted}"
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
