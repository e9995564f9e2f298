"""
Changes the code in small ways, one at a time, and lists the changes that no unit test notices.

`nox -s mutation` runs it, with mutmut. What is known to go unnoticed, and why, stands in `accepted.toml`; anything else
makes it fail. docs/mutation.md says how to go on from there.
"""

import argparse
import ast
import fnmatch
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import toml as tomllib  # mutmut brings it there

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
WORK = ROOT / "build" / "mutation"
ACCEPTED = HERE / "accepted.toml"


class Part(NamedTuple):
    """Some modules, and the tests that are to notice; such as start no Airflow, and are fast."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


PARTS = {
    "core": Part(("outcome", "resume"), ("tests/core/test_outcome.py", "tests/core/test_resume.py")),
    "sensors": Part(("*",), ("tests/sensors", "tests/authoring/test_callbacks.py")),
    "producers": Part(("*",), ("tests/producers", "--ignore=tests/producers/test_stop.py")),
}

CONFIG = """
[tool.mutmut]
source_paths = ["dbt_watch"]
only_mutate = {modules}
also_copy = ["examples"]
# What a log says is no behaviour.
do_not_mutate_patterns = ['\\blog\\.(debug|info|warning|error|exception)\\(', '\\bTYPE_CHECKING\\b']
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "--timeout=60", "--hypothesis-profile=repeatable"]
# A change that makes tests wait is noticed after (their own time + 4 s) x 3.
timeout_constant = 4.0
timeout_multiplier = 3.0
# A change runs in a process that has run no test before: what Airflow masks once, it masks for good.
process_isolation = "forkserver"
use_git_change_detection = false
on_dependency_change = "ignore"
"""

NOTICED = {"killed", "timeout"}
NOT_CALLED = "no tests"


class Change(NamedTuple):
    """A change of the code. It is known by what it changes, so that it stays the same when others come and go."""

    place: str
    before: str
    after: str

    @property
    def is_as_good(self) -> bool:
        """Whether it puts None where False was, and mypy would notice it where that makes a difference."""
        return self.before.replace(" = False", " = None") == self.after

    @property
    def is_wording(self) -> bool:
        """Whether only the letters of a text for people are altered: of one that has several words."""
        if plain(self.after) != plain(self.before):
            return False
        pairs = zip(texts_in(self.before), texts_in(self.after), strict=True)
        return all(" " in before for before, after in pairs if before != after)


def plain(code: str) -> str:
    """Leave out what mutmut puts into a text, and the case of its letters."""
    return code.replace("XX", "").lower()


def texts_in(code: str) -> list[str]:
    """Return the texts between quotation marks."""
    return re.findall(r'"([^"]*)"', code)


def main() -> int:
    parser = argparse.ArgumentParser(prog="nox -s mutation --", description=__doc__.strip().split("\n")[0])
    watched = [f"{part}/{module}" for part, (modules, _) in PARTS.items() for module in modules]
    parser.add_argument(
        "modules", nargs="*", default=watched, help="such as core/outcome or sensors/*; by default all"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many changes are tried at once")
    options = parser.parse_args()
    wanted = defaultdict(list)
    for name in options.modules:
        part, _, module = name.removesuffix(".py").partition("/")
        wanted[part].append(module)
    return max(examine(part, modules, options.jobs) for part, modules in wanted.items())


def examine(name: str, modules: list[str], jobs: int) -> int:
    """Try all changes of some modules; 1 when one goes unnoticed that is not accepted."""
    work = WORK / name
    prepare(work, name, PARTS[name])
    patterns = [f"dbt_watch.{name}.{module}.*" for module in modules]
    mutmut(work, "run", f"--max-children={jobs}", *patterns)
    statuses = {}
    for line in mutmut(work, "results", "--all=true").splitlines():
        mutant, _, status = line.strip().rpartition(": ")
        if any(fnmatch.fnmatch(mutant, pattern) for pattern in patterns):
            statuses[mutant] = status
    return report(work, statuses)


def prepare(work: Path, name: str, part: Part) -> None:
    """Lay out what mutmut works on: the code, its tests, and the examples."""
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("dbt_watch", "tests", "examples"):
        ignored = shutil.ignore_patterns("__pycache__", "*.duckdb*", "logs", "target")
        shutil.copytree(ROOT / folder, work / folder, ignore=ignored)
    for module in (work / "dbt_watch" / name).glob("*.py"):
        module.write_text(undecorated(module.read_text()))
    modules = [f"dbt_watch/{name}/{module}.py" for module in part.modules]
    config = CONFIG.format(modules=modules, tests=list(part.tests))
    (work / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + config)


def undecorated(source: str) -> str:
    """Write out what `@property` and the like mean: mutmut leaves a function alone that has a decorator."""
    lines = source.split("\n")
    bodies = [
        node.body for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Module | ast.ClassDef)
    ]
    functions = [
        item for body in bodies for item in body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    for node in sorted(functions, key=lambda node: -node.lineno):
        names = [ast.unparse(item) for item in node.decorator_list]
        if not names or names in (["staticmethod"], ["classmethod"]):
            continue
        meant = node.name
        for name in reversed(names):
            meant = f"{name}({meant})"
        lines.insert(node.end_lineno, f"{' ' * node.col_offset}{node.name} = {meant}")
        del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    return "\n".join(lines)


def mutmut(work: Path, *arguments: str) -> str:
    """Run mutmut, and give what it prints."""
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    env = {**os.environ, "PYTHONHASHSEED": "0", "DBT_WATCH_PARSED": str(WORK / "parsed")}
    done = subprocess.run(
        command, cwd=work, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nmutmut failed")
    return done.stdout


def report(work: Path, statuses: dict[str, str]) -> int:
    """Print what goes unnoticed and is not accepted, as it would stand among what is; 1 when there is something."""
    known = tomllib.loads(ACCEPTED.read_text())
    accepted = {Change(item["in"], *change) for item in known["accepted"] for change in item["changes"]}
    left = [pattern for item in known["left"] for pattern in item["places"]]
    news, uncalled = defaultdict(list), Counter()
    for mutant, status in statuses.items():
        place = place_of(mutant)
        if status in NOTICED or any(fnmatch.fnmatch(place, pattern) for pattern in left):
            continue
        if status == NOT_CALLED:
            uncalled[place] += 1
            continue
        change = change_of(work, mutant)
        if change not in accepted and not change.is_as_good and not change.is_wording:
            news[place].append(change)
    print(", ".join(f"{number} {status}" for status, number in Counter(statuses.values()).most_common()))
    for place, changes in news.items():
        print(f"\n[[accepted]]\nin = '{place}'\nwhy = ''\nchanges = [")
        for change in changes:
            print(f"  [\n    '''{change.before}''',\n    '''{change.after}''',\n  ],")
        print("]")
    for place, number in uncalled.items():
        print(f"\n# no unit test calls it: {place} ({number} changes)")
    return 1 if news or uncalled else 0


def place_of(mutant: str) -> str:
    """Say where a mutant is: `core/outcome Producer.run`."""
    module, _, name = mutant.rpartition(".")
    function = name.rpartition("__mutmut_")[0].removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
    return f"{module.removeprefix('dbt_watch.').replace('.', '/')} {function}"


def change_of(work: Path, mutant: str) -> Change:
    """Ask mutmut what a mutant changes."""
    lines = mutmut(work, "show", mutant).splitlines()
    body = [line for line in lines if line[:1] in {"-", "+"} and line[:4] not in {"--- ", "+++ "}]
    before, after = ("\n".join(line[1:].strip() for line in body if line[0] == sign) for sign in ("-", "+"))
    return Change(place_of(mutant), before, after)


if __name__ == "__main__":
    sys.exit(main())
