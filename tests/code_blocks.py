"""The blocks of code in the pages of the documentation, for the tests that parse, check and run them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))

FENCE = re.compile(r"^( *)(`{3,})(.*)$")


@dataclass(frozen=True)
class Block:
    """
    A block of code.

    :ivar page: where it stands, from the root of the project
    :ivar line: of its first line there
    :ivar language: what follows its fence
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, without the indentation of their fences."""
    found = []
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in lines:
        fence = FENCE.match(line)
        if fence is None:
            continue
        indentation, ticks, language = fence.groups()
        inside = []
        for _, text in lines:
            if text.strip() == ticks:
                break
            inside.append(text.removeprefix(indentation) + "\n")
        found.append(Block(str(page.relative_to(ROOT)), number + 1, language.strip(), "".join(inside)))
    return found


@cache
def all_blocks() -> tuple[Block, ...]:
    """Return the blocks of all pages."""
    return tuple(block for page in PAGES for block in blocks_of(page))


def in_language(*languages: str) -> list[Block]:
    """Return the blocks of all pages in some languages."""
    return [block for block in all_blocks() if block.language in languages]


def code(text: str) -> str:
    """Return the lines of a text without their indentation, which a formatter sets differently in a fragment."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def is_excerpt(block: Block) -> bool:
    """Tell whether a block stands in one of the examples, which other tests run."""
    return any(code(block.text) in source for source in _sources())


@cache
def _sources() -> tuple[str, ...]:
    return tuple(code(example.read_text()) for example in EXAMPLES)


def python_blocks() -> list[Block]:
    """Return the blocks of Python that are no excerpts of examples."""
    return [block for block in in_language("python") if not is_excerpt(block)]


def without_indentation(block: Block) -> str:
    """Return the text of a block that stands within a function."""
    return textwrap.dedent(block.text)
