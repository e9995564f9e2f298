"""
A run as one HTML file that needs nothing else: `page/page.html` with its style, its script and the record of the run in it.

The record stands in a block of JSON, and the script shows its texts as text alone. The policy in the page lets nothing run, and
nothing be loaded, but the style and the script themselves. `reporting.command` writes the file.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dbt_watch.reporting.run_record import RunRecord

# In a block of JSON these mean the same as the characters, and nothing to a parser of HTML.
_ESCAPES: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def page_of(record: RunRecord) -> str:
    """Return a run as an HTML document."""
    style, script = _part("page.css"), _part("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _part("page.html")
    for name, text in (("policy", policy), ("style", style), ("script", script), ("record", _data(record))):
        before, _, after = page.partition(f"{{{{ {name} }}}}")
        page = before + text + after
    return page


def _data(record: RunRecord) -> str:
    return record.to_json().decode().translate(_ESCAPES)


def _part(name: str) -> str:
    return resources.files("dbt_watch.reporting").joinpath("page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
