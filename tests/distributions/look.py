"""
What is in the wheel and the sdist, compared with what is in git. `nox -s build` runs it, with nothing installed.

    python tests/distributions/look.py WHEEL SDIST WHEEL_FROM_SDIST
"""

from __future__ import annotations

import configparser
import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
FRONT_END = "dbt_watch/page/front_end/"
# Beside what `include` of the sdist names; hatchling adds them.
OF_THE_SDIST = {"PKG-INFO", "pyproject.toml", ".gitignore"}
SDIST = (
    "dbt_watch", "examples", "tests", "docs", ".github", "README.md", "CHANGELOG.md", "CITATION.cff", "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md", "LICENSE", "SECURITY.md", "noxfile.py",
)  # fmt: skip
WANTED = {
    "dbt_watch/py.typed",
    "dbt_watch/page/static/index.html",
    "dbt_watch/page/static/THIRD-PARTY.txt",
    "dbt_watch/scaffold/templates/Dockerfile.template",
    "dbt_watch/examples/jaffle_shop/dbt_project.yml",
    "dbt_watch/examples/jaffle_shop_dag.py",
}
ENTRY_POINTS = {
    "console_scripts": {"dbt-watch": "dbt_watch.cli:main"},
    "apache_airflow_provider": {"provider_info": "dbt_watch.provider:get_provider_info"},
    "airflow.plugins": {"dbt_watch": "dbt_watch.airflow.plugin:DbtWatchPlugin"},
    "pytest11": {"dbt_watch": "dbt_watch.testing.plugin"},
}


def tracked(*paths: str) -> set[str]:
    """Return the files of some paths that git knows, or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def check_names(what: str, found: set[str], expected: set[str]) -> None:
    """End with what is missing or too much."""
    wrong = [
        *(f"- {name}" for name in sorted(expected - found)),
        *(f"+ {name}" for name in sorted(found - expected)),
    ]
    if wrong:
        sys.exit("\n".join([f"{what} is not what is in git:", *wrong]))
    print(f"{what}: {len(found)} files")


def check_wheel(path: Path) -> set[str]:
    """Check the names in a wheel, what it says of itself, and its entry points; return the names."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (
            email.message_from_bytes(wheel.read(name))
            for name in names
            if name.endswith(".dist-info/METADATA")
        )
        (found,) = (
            wheel.read(name).decode() for name in names if name.endswith(".dist-info/entry_points.txt")
        )
    of_the_package = {name for name in names if ".dist-info/" not in PurePosixPath(name).as_posix()}
    package = {name for name in tracked("dbt_watch") if not name.startswith(FRONT_END)}
    check_names("the wheel", of_the_package, package | {f"dbt_watch/{name}" for name in tracked("examples")})
    assert of_the_package >= WANTED, WANTED - of_the_package
    entry_points = configparser.ConfigParser()
    entry_points.read_string(found)
    assert {section: dict(entry_points[section]) for section in entry_points.sections()} == ENTRY_POINTS, (
        found
    )
    check_metadata(metadata)
    return names


def check_metadata(metadata: email.message.Message) -> None:
    """Compare what a wheel says of itself with pyproject.toml."""
    said = (ROOT / "pyproject.toml").read_text()
    assert metadata["Name"] == "dbt-watch"
    assert f'version = "{metadata["Version"]}"' in said
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == "<3.14,>=3.10"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    extras = said.split("[project.optional-dependencies]")[1].split("\n[")[0]
    names = set(re.findall(r"^([a-z-]+) = \[", extras, re.MULTILINE))
    assert set(metadata.get_all("Provides-Extra", [])) == names, names
    print(f"{metadata['Name']} {metadata['Version']}, with {len(names)} extras")


def check_sdist(path: Path) -> None:
    """Check the names in an sdist."""
    with tarfile.open(path) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    assert any(name.startswith(FRONT_END) for name in names)
    check_names("the sdist", names - OF_THE_SDIST, tracked(*SDIST))


def main() -> None:
    """Check all three."""
    wheel, sdist, wheel_from_sdist = map(Path, sys.argv[1:])
    names = check_wheel(wheel)
    check_sdist(sdist)
    with zipfile.ZipFile(wheel_from_sdist) as other:
        check_names("the wheel from the sdist", set(other.namelist()), names)


if __name__ == "__main__":
    main()
