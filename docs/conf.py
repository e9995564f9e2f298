"""How the pages become a site: `nox -s docs` runs Sphinx with this."""

import os
import re
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent

project = "dbt_watch"
version = release = version_of("dbt-watch")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "dbt_watch"
html_copy_source = False

default_role = "code"  # what docstrings put in backquotes
# As GitHub does, where the pages are read as well.
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]  # a block may be a part of a file

autodoc_typehints = "none"  # the signatures have them
autodoc_member_order = "bysource"

# Files above the pages that are pages of the site: each stands in front of what the page holds itself.
ABOVE = {
    "README.md": "index",
    "CHANGELOG.md": "changes",
    "CODE_OF_CONDUCT.md": "conduct",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "vulnerabilities",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def with_links_of_the_site(text, directory, page):
    """
    Return the text of a page, its links leading to pages of the site; to a directory of the repository there are none.

    :param directory: where the file of the text is
    :param page: the file of the page
    """

    def of_the_site(link):
        sign, words, path, anchor = link.groups(default="")
        target = (directory / path).resolve()
        if target.is_dir():
            return words
        if target.parent == HERE.parent and target.name in ABOVE:
            target = HERE / f"{ABOVE[target.name]}.md"
        return f"{sign}[{words}]({os.path.relpath(target, page.parent)}{anchor})"

    return LINK.sub(of_the_site, text)


def read(_app, name, source):
    """Change what Sphinx has read of a page."""
    page = HERE / f"{name}.md"
    text = with_links_of_the_site(source[0], page.parent, page)
    for file, stands_in in ABOVE.items():
        if stands_in == name:
            text = with_links_of_the_site((HERE.parent / file).read_text(), HERE.parent, page) + "\n" + text
    source[0] = text


def setup(app):
    """Be asked for by Sphinx."""
    app.connect("source-read", read)
