"""What was built of the page in `dbt_watch/page/front_end` is up to date, whole, and asks nothing of another host. `nox -s ui_build` builds it."""

import hashlib
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "dbt_watch/page/front_end"
STATIC = ROOT / "dbt_watch/page/static"
PARTS = (
    "index.html",
    "package-lock.json",
    "package.json",
    "public",
    "scripts",
    "src",
    "tsconfig.json",
    "vite.config.ts",
)
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
# Names of namespaces, and of documents that messages of the libraries speak of; nothing asks for them.
NAMED_ONLY = (
    "http://www.w3.org/",
    "https://react.dev/",
    "https://bit.ly/",
    "https://github.com/",
    "https://js.cytoscape.org",
)
# More than this and the page takes long over a slow line; compressed, it is about a third.
MOST_BYTES = 1_300_000


def test_the_build_is_as_new_as_its_sources():
    digest = hashlib.sha256()
    found = [
        path
        for part in PARTS
        for path in ([SOURCES / part] if (SOURCES / part).is_file() else (SOURCES / part).rglob("*"))
        if path.is_file()
    ]
    for path in sorted(found, key=lambda path: path.relative_to(SOURCES).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(SOURCES).as_posix()}\0{content}\n".encode())
    built_from = (STATIC / "SOURCES.sha256").read_text().strip()
    assert built_from == digest.hexdigest(), (
        "the front end has changed since it was built: run `nox -s ui_build`"
    )


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.addresses = []
        self.inline = []
        self.handlers = []
        self._tag = ""

    def handle_starttag(self, tag, attrs):
        self._tag = tag
        given = dict(attrs)
        self.addresses += [given[name] for name in ("src", "href") if given.get(name)]
        self.handlers += [name for name in given if name.startswith("on") or name == "style"]

    def handle_endtag(self, tag):
        self._tag = ""

    def handle_data(self, data):
        if self._tag in {"script", "style"} and data.strip():
            self.inline.append(data)


def test_the_page_loads_only_files_that_lie_beside_it():
    page = _Page()
    page.feed((STATIC / "index.html").read_text())
    assert page.addresses
    for address in page.addresses:
        assert address.startswith("./assets/"), address
        assert (STATIC / address).is_file(), address


def test_the_page_has_no_script_or_style_of_its_own_in_it():
    page = _Page()
    page.feed((STATIC / "index.html").read_text())
    assert page.inline == []
    assert page.handlers == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.suffix in {".js", ".css", ".svg"}], ids=lambda path: path.name
)
def test_no_file_refers_to_another_host(path):
    text = path.read_text(encoding="utf-8")
    found = {
        address
        for address in re.findall(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s"'`)]*""", text)
        if address.startswith("http")
    }
    assert {address for address in found if not address.startswith(NAMED_ONLY)} == set()
    assert "@import" not in text
    assert "sourceMappingURL" not in text


def test_the_page_is_not_large():
    assert sum(path.stat().st_size for path in FILES if path.suffix in {".js", ".css", ".html"}) < MOST_BYTES


def test_the_licences_of_all_that_is_built_in_are_named():
    text = (STATIC / "THIRD-PARTY.txt").read_text()
    for package in ("react-dom", "react-aria-components", "@tanstack/table-core", "cytoscape"):
        assert re.search(rf"^{re.escape(package)} \d", text, re.MULTILINE), package


def test_the_lock_file_names_no_registry():
    assert '"resolved"' not in (SOURCES / "package-lock.json").read_text()


def test_the_wheel_has_all_files_of_the_page():
    assert 'only-include = ["dbt_watch", "examples"]' in (ROOT / "pyproject.toml").read_text()
    if not (ROOT / ".git").exists():
        pytest.skip("what is left out of the wheel is what git ignores, and this is no clone")
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *(str(path) for path in FILES)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ignored.stdout == ""
    assert ignored.returncode == 1
