"""
Changes the code in small ways, one at a time, and lists the changes that no unit test notices.

`nox -s mutation` runs it, with mutmut. What is known to go unnoticed, and why, stands in `accepted.toml`; anything else
makes it fail. docs/mutation.md says how to go on from there.
"""

import argparse
import ast
import fnmatch
import json
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


# Each module that is watched, and what is to notice its changes: tests that start no Airflow, and few of them a cluster.
WATCHED = {
    "core/held_back": ("core/test_held_back.py",),
    "core/outcome": ("core/test_outcome.py",),
    "core/resume": ("core/test_resume.py",),
    "core/journal/format": ("core/test_journal.py", "core/test_pages.py"),
    "core/journal/reader": (
        "core/test_journal.py", "core/test_journal_reader.py", "producers/test_journal_publisher.py",
    ),
    "core/journal/writer": (
        "core/test_journal.py", "core/test_journal_reader.py", "core/test_pages.py", "producers/test_journal_publisher.py",
    ),
    "sensors/hub": ("sensors/test_hub.py", "sensors/test_pace.py", "sensors/test_trigger.py"),
    "sensors/journal_look": ("sensors/test_once.py",),
    "sensors/operator": (
        "sensors/test_ends.py", "sensors/test_last_event.py", "sensors/test_once.py", "sensors/test_rebuild.py",
        "sensors/test_starts.py", "authoring/test_callbacks.py",
    ),
    "sensors/rebuild_order": ("sensors/test_rebuild_order.py",),
    "sensors/run_states": ("sensors/test_run_states.py", "sensors/test_trigger.py"),
    "sensors/trigger": ("sensors/test_last_event.py", "sensors/test_trigger.py"),
    "sensors/updates": ("sensors/test_hub.py", "sensors/test_once.py", "sensors/test_rebuild.py", "sensors/test_updates.py"),
    "producers/pods/async_log_reader": ("producers/test_log_following.py", "producers/test_reading.py"),
    "producers/attempt": ("producers/test_attempt.py",),
    "producers/build_watch": ("producers/test_watch.py",),
    "producers/pods/earlier_pods": ("producers/test_earlier.py", "producers/test_plan.py", "producers/test_project_pods.py"),
    "producers/pods/failure_reasons": ("producers/test_reasons.py",),
    "producers/ending": ("producers/test_ending.py", "producers/test_isolated_node.py"),
    "producers/journal_publisher": ("producers/test_deferred.py", "producers/test_journal_publisher.py"),
    "producers/journal_store": ("producers/test_journal_store.py", "producers/test_deferred.py"),
    "producers/pods/api_errors": ("producers/test_log_parts.py",),
    "producers/pods/container_end": ("producers/test_log_parts.py",),
    "producers/pods/log_following": (
        "producers/test_log_following.py", "producers/test_log_parts.py", "producers/test_reading.py",
    ),
    "producers/pods/log_reader": ("producers/test_reading.py",),
    "producers/pods/pod_manager": ("producers/test_pod_manager.py",),
    "producers/pods/pre_stop": ("producers/test_pre_stop.py",),
    "producers/pods/project_pods": ("producers/test_project_pods.py",),
    "producers/retry_plan": ("producers/test_plan.py",),
    "producers/retry_state": ("producers/test_memory.py",),
    "producers/secrets": ("producers/test_secrets.py",),
    "producers/single_node": ("producers/test_alone.py",),
    "producers/termination": ("producers/test_stopping.py",),
    "producers/pods/trigger": ("producers/test_deferred.py", "producers/test_following.py"),
    "producers/dbt_trigger": ("producers/test_deferred.py", "producers/test_following.py", "sensors/test_last_event.py"),
    "producers/triggerer_capacity": ("producers/test_capacity.py",),
    "producers/upstreams": ("producers/test_isolated_node.py", "producers/test_upstreams.py"),
    "producers/waiting": ("producers/test_project_pods.py",),
    "rendering/barriers": ("authoring/test_isolation.py", "planning/test_project_plan.py"),
    "rendering/split": ("rendering/test_split.py",),
}  # fmt: skip

CONFIG = """
[tool.mutmut]
source_paths = ["dbt_watch"]
only_mutate = ["{path}"]
also_copy = ["docs", "examples"]
# What a log says is no behaviour.
do_not_mutate_patterns = ['\\blog\\.(debug|info|warning|error|exception)\\(', '\\bTYPE_CHECKING\\b']
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "--timeout=120", "--hypothesis-profile=repeatable"]
# A change that makes tests wait is noticed after (their own time + 10 s) x 3: the machine may be busy.
timeout_constant = 10.0
timeout_multiplier = 3.0
# What a test says that fails without any change.
debug = true
# A change runs in a process that has run no test before: what Airflow masks once, it masks for good.
process_isolation = "forkserver"
use_git_change_detection = false
on_dependency_change = "ignore"
"""

KILLED = "killed"
NOTICED = {KILLED, "timeout"}
NOT_CALLED, NOT_TRIED = "no tests", "not checked"
# So many tell of a test that fails without any change.
LAST_LINES = 150


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
    parser.add_argument(
        "modules", nargs="*", default=["*"], help="such as core/outcome or sensors/*; by default all"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many changes are tried at once")
    parser.add_argument(
        "--again",
        action="store_true",
        help="only the changes that went unnoticed, or made the tests wait, the last time",
    )
    options = parser.parse_args()
    wanted = [name for name in WATCHED if any(fnmatch.fnmatch(name, item) for item in options.modules)]
    if not wanted:
        parser.error(f"no such module; there are {', '.join(WATCHED)}")
    return max([examine(name, options.jobs, again=options.again) for name in wanted])


def examine(name: str, jobs: int, *, again: bool) -> int:
    """Try all changes of a module; 1 when one goes unnoticed that is not accepted."""
    print(f"# {name}", flush=True)
    work = WORK / name.replace("/", "-")
    source = undecorated((ROOT / module_path(name)).read_text())
    memory = work.with_suffix(".json")
    mutants = [f"dbt_watch.{name.replace('/', '.')}.*"]
    if again:
        last = json.loads(memory.read_text()) if memory.exists() else {}
        if last.get("source") != source:
            sys.exit("it is another than the last time, or has not been gone through yet: leave out --again")
        mutants = last["doubtful"]
        if not mutants:
            return 0
    prepare(work, name, source)
    mutmut(work, "run", f"--max-children={jobs}", *mutants)
    statuses = statuses_of(work)
    doubtful = [mutant for mutant, status in statuses.items() if status != KILLED]
    memory.write_text(json.dumps({"source": source, "doubtful": doubtful}))
    return report(work, statuses)


def module_path(name: str) -> str:
    """Return where a module is, such as core/outcome."""
    return f"dbt_watch/{name}.py"


def prepare(work: Path, name: str, source: str) -> None:
    """Lay out what mutmut works on: the code, its tests, and what these read."""
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("dbt_watch", "docs", "examples", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.duckdb*", "logs", "target")
        shutil.copytree(ROOT / folder, work / folder, ignore=ignored)
    (work / module_path(name)).write_text(source)
    config = CONFIG.format(path=module_path(name), tests=[f"tests/{test}" for test in WATCHED[name]])
    (work / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + config)


def statuses_of(work: Path) -> dict[str, str]:
    """Return what became of each change that was tried."""
    statuses = {}
    for line in mutmut(work, "results", "--all=true").splitlines():
        mutant, _, status = line.strip().rpartition(": ")
        if status != NOT_TRIED:
            statuses[mutant] = status
    return statuses


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
    """Run mutmut, and return what it prints."""
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    env = {**os.environ, "PYTHONHASHSEED": "0", "DBT_WATCH_PARSED": str(WORK / "parsed")}
    done = subprocess.run(
        command, cwd=work, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit("\n".join([*done.stdout.splitlines()[-LAST_LINES:], "mutmut failed"]))
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
