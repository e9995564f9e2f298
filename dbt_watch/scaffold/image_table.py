"""
What pyproject.toml says of a project's image, for `dbt-watch run`: a table is appended, and nothing that stands there is changed.

Called by `scaffold.command`.
"""

from __future__ import annotations

import importlib
import json
from typing import Final

TABLE: Final = "[tool.dbt_watch.images]"


def lines_for(image: str, place: str) -> str:
    """Return the table of one image: its name -> the directory of the project, relative to pyproject.toml."""
    return f"{TABLE}\n{json.dumps(image)} = {json.dumps(place)}\n"


def with_image(text: str, image: str, place: str) -> str | None:
    """
    Return the text of a pyproject.toml with the image.

    :returns: None where there is something of dbt_watch already, to which nothing can be appended safely
    """
    entry = lines_for(image, place).splitlines()[1]
    if entry in text.splitlines():
        return text
    if "dbt_watch" in text:
        return None
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    changed = f"{text}{gap}{lines_for(image, place)}"
    return changed if _is_toml(changed) else None


def _is_toml(text: str) -> bool:
    try:
        tomllib = importlib.import_module("tomllib")
    except ModuleNotFoundError:  # Python 3.10 has nothing that could tell
        return True
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True
