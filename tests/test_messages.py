"""
Every message that a user may read is found in the documentation by its text, and what the page of messages shows is still said.

Messages are read off the source: what errors are made with, what is logged as a warning or worse, and the texts of the functions
in `TOLD`. Of each, the constant pieces have to stand in one line of a page, in their order. `NOT_SHOWN` has what no user reads.
"""

import ast
import itertools
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import dbt_watch

PACKAGE = Path(dbt_watch.__file__).parent
PAGE = Path(__file__).parents[1] / "docs/messages.md"

GAP = "\0"
"""What stands in a message for a value."""

TOLD = {
    "authoring/parse_warnings.py": ["warn_of_obstacle"],
    "airflow/light_triggerer.py": ["find_obstacle"],
    "core/causes.py": ["*"],
    "core/held_back.py": ["*"],
    "core/log/artifacts.py": ["*"],
    "core/log/drift.py": ["between"],
    "core/log/enclosed_files.py": ["file", "unpacked"],
    "core/log/end_of_run.py": ["*"],
    "core/log/stale_sources.py": ["_summary", "_held_back"],
    "core/log/task_log.py": ["failure_lines"],
    "core/outcome.py": ["decide", "_reason", "_what_happened", "_cause", "_why"],
    "core/selection/near.py": ["complaint"],
    "core/selection/run_time.py": ["*"],
    "producers/api/answers.py": ["said_in"],
    "producers/artifact_store.py": ["keep"],
    "producers/attempt.py": ["failure_of"],
    "producers/build_watch.py": ["_judged", "summary_of"],
    "producers/pods/failure_reasons.py": ["broken_off", "_failed"],
    "producers/termination.py": ["check", "_decide_alone"],
    "rendering/executor_use.py": ["obstacle"],
    "sensors/waits.py": ["words_for"],
}
"""Functions whose texts are reasons that the task of a node, or the producer, ends or waits with; `*` for all of a module."""

NOT_SHOWN = {
    "__init__.py": "Python's own words for a name that a module does not have",
    "airflow/kubernetes_imports.py": "Python's own words for a name that a module does not have",
    "airflow/supervisor.py: the XCom": "an answer of Airflow's, shown behind a message of ours",
    "airflow/supervisor.py: no ": "an answer of Airflow's, shown behind a message of ours",
    "core/manifest/cache.py": "a cache that is not used: the manifest is read instead",
    "producers/api/client.py: the client is used": "a bug of ours",
    "server/queue.py: the API runs nothing": "a bug of ours",
}
"""What no user can see, by module, or by module and the beginning of the text, each with the reason why not."""

FOREIGN = {
    "Triggerer's async thread was blocked for": "Airflow",
    "specifies executor": "Airflow",
    "TaskGroup can only be used": "Airflow",
    "exceeded quota: ": "Kubernetes",
    "pods is forbidden: User": "Kubernetes",
    "Env var required but not provided": "dbt",
    "kubectl ": "a command",
    "airflow jobs check": "a command",
    "dbt-watch ls": "a command",
    "@dbt_node(": "code",
    "env_vars={": "code",
    "[dbt_watch] page = False": "a setting",
    "pip install": "a command",
    "python -X": "a command",
    "No module named": "Python",
    "Permission denied": "the kernel",
    "no match for platform": "Kubernetes",
}
"""What troubleshooting shows and others say, by a part of it, and who does."""

_LOGGED = {"warning", "error", "exception", "critical"}
_FORMAT = re.compile(r"%[-\d.]*[sdrf]")
_FEWEST = 6  # letters: with fewer, a message is nothing but somebody else's words


@dataclass(frozen=True, order=True)
class Message:
    """A message in the source: where it stands, and its text with a `GAP` for each value."""

    where: str
    line: int = field(compare=False)
    text: str

    @property
    def is_ours(self):
        """Whether enough of it is constant to be looked for."""
        said = self.text.replace(": expected ", "")
        return sum(map(str.isalpha, said)) >= _FEWEST and (" " in said.strip() or said != self.text)

    @property
    def is_hidden_by(self):
        """What of `NOT_SHOWN` is about it."""
        full = f"{self.where}: {self.text}"
        return [key for key in NOT_SHOWN if full.startswith(key)]

    def is_in(self, line):
        """Tell whether the constant pieces stand in a line, in their order."""
        at = 0
        for piece in map(plain, self.text.strip().split(GAP)):
            found = line.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    @property
    def shown(self):
        return plain(self.text.replace(GAP, "..."))


def plain(text):
    """Return a text without what Markdown or a line break adds to it."""
    return re.sub(r"\s+", " ", text.replace("`", "").replace("\\|", "|"))


class Module:
    """The messages of one module."""

    def __init__(self, path):
        self.where = path.relative_to(PACKAGE).as_posix()
        self.tree = ast.parse(path.read_text())
        self.values = {}
        self.functions = {}
        self.parents = {}
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions[node.name] = node
        for node in self.tree.body:
            for name, value in assigned(node):
                self.values[name] = value

    def messages(self):
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                for text in self.said_by(node):
                    yield Message(self.where, node.lineno, text)
        for name in TOLD.get(self.where, ()):
            body = self.tree if name == "*" else self.functions[name]
            for node in ast.walk(body):
                if isinstance(node, ast.Constant | ast.JoinedStr) and self.is_sentence(node):
                    for text in self.texts(node, self.function_of(node)):
                        yield Message(
                            self.where, node.lineno, re.sub(r"\{\w*\}", GAP, _FORMAT.sub(GAP, text))
                        )

    def is_sentence(self, node):
        parent = self.parents[node]
        if isinstance(parent, ast.Expr) or self.is_logged_at_info(node):
            return False
        while parent is not None:
            if isinstance(parent, ast.JoinedStr):
                return False
            parent = self.parents.get(parent)
        constants = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
        return " " in "".join(text for text in constants if isinstance(text, str)).strip()

    def is_logged_at_info(self, node):
        parent = self.parents[node]
        return isinstance(parent, ast.Call) and ast.unparse(parent.func).endswith("log.info")

    def notes(self):
        """Yield what is logged that is no warning."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("log.info"):
                for text in self.said_by(node, levels={"info"}):
                    yield Message(self.where, node.lineno, text)

    def said_by(self, call, levels=_LOGGED):
        name = ast.unparse(call.func)
        within = self.function_of(call)
        if name.rpartition(".")[2] in levels and re.search(r"log(ger)?$", name.rpartition(".")[0].lower()):
            for text in self.texts(call.args[0], within) if call.args else ():
                yield _FORMAT.sub(GAP, text)
            return
        given = call.args
        if name in ARGUMENT_ERRORS:
            if len(given) < 3:
                return
            argument, _, expected = given[:3]
            names = self.texts(argument, within)
            what = names[0] if len(names) == 1 else GAP
            for right in self.texts(expected, within):
                yield f"{what}={GAP}: expected {right}"
        elif name in ERRORS or self.is_raised(call) or self.makes_an_error(name):
            for value in [*given, *(keyword.value for keyword in call.keywords if keyword.arg != "known")]:
                yield from self.texts(value, within)

    def makes_an_error(self, name):
        """Tell whether a function of the module returns an error that it makes of its arguments."""
        function = self.functions.get(name.removeprefix("self."))
        return (
            function is not None and function.returns is not None and ast.unparse(function.returns) in ERRORS
        )

    def is_raised(self, call):
        """Tell whether a call makes what is raised, or the cause of a refusal."""
        parent = self.parents[call]
        while isinstance(parent, ast.IfExp):
            parent = self.parents[parent]
        return isinstance(parent, ast.Raise) and parent.cause is not call

    def function_of(self, node):
        while node is not None and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node = self.parents.get(node)
        return node

    def texts(self, node, within, depth=0):
        """Return what an expression may say, as far as the module tells."""
        if depth > 12:
            return [GAP]
        found = [*self.texts_written_out(node, within, depth + 1), *self.texts_named(node, within, depth + 1)]
        return list(dict.fromkeys(found)) or [GAP]

    def texts_written_out(self, node, within, depth):
        match node:
            case ast.Constant(value=str() as text):
                yield text
            case ast.JoinedStr(values=parts):
                choices = [self.texts(part, within, depth) for part in parts]
                if math.prod(map(len, choices)) > 40:
                    choices = [found if len(found) == 1 else [GAP] for found in choices]
                yield from map("".join, itertools.product(*choices))
            case ast.FormattedValue(value=value) if not isinstance(value, ast.Call):
                found = self.texts(value, within, depth)
                yield from found if len(found) <= 12 else ()
            case ast.IfExp(body=body, orelse=orelse):
                yield from (*self.texts(body, within, depth), *self.texts(orelse, within, depth))
            case ast.BoolOp(values=values):
                yield from (text for value in values for text in self.texts(value, within, depth))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                sides = (self.texts(left, within, depth), self.texts(right, within, depth))
                yield from map("".join, itertools.product(*sides))

    def texts_named(self, node, within, depth):
        match node:
            case ast.Name(id=name):
                yield from self.texts_of_name(name, within, depth)
            case (
                ast.Subscript(value=ast.Name(id=name))
                | ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get"))
            ) if isinstance(self.values.get(name), ast.Dict):
                for value in self.values_of_dict(self.values[name]):
                    yield from self.texts(value, within, depth)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name)) if (
                name in self.functions
            ):
                yield from self.texts_of_function(self.functions[name], depth)
            case ast.Call(func=ast.Attribute(value=value, attr="rstrip" | "removesuffix" | "format")):
                yield from (re.sub(r"\{\w*\}", GAP, text) for text in self.texts(value, within, depth))

    def values_of_dict(self, node):
        """Yield the values of a dict that is written out, those of dicts within it as well."""
        match node:
            case ast.Dict(values=values):
                for value in values:
                    yield from self.values_of_dict(value)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="dict"), attr="fromkeys"), args=[_, value]):
                yield value
            case ast.DictComp(value=value):
                yield value
            case ast.Name(id=name) if name in self.values and isinstance(self.values[name], ast.Dict):
                yield from self.values_of_dict(self.values[name])
            case _:
                yield node

    def texts_of_name(self, name, within, depth):
        found = []
        for node in ast.walk(within) if within is not None else ():
            if isinstance(node, ast.For) and name in ast.unparse(node.target).split(", "):
                return [text for _, value in assigned(node) for text in self.texts(value, within, depth + 1)]
            for target, value in assigned(node):
                if target == name and value is not None:
                    found += self.texts(value, within, depth + 1)
        if (
            not found
            and name in self.values
            and isinstance(self.values[name], ast.Constant | ast.JoinedStr | ast.BinOp)
        ):
            found = self.texts(self.values[name], None, depth + 1)
        return list(dict.fromkeys(found))

    def texts_of_function(self, function, depth):
        found = []
        for node in ast.walk(function):
            if isinstance(node, ast.Return | ast.Yield) and node.value is not None:
                found += self.texts(node.value, function, depth + 1)
        return list(dict.fromkeys(found))


def assigned(node):
    """Yield the names that a statement assigns to, each with the value."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, ast.For) and isinstance(node.target, ast.Tuple):
        *_, last = node.target.elts
        match node.iter:
            case ast.Call(func=ast.Attribute(value=ast.Name() as name, attr="items")):
                yield ast.unparse(last), ast.Subscript(name, ast.Constant(""))
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and isinstance(node.target, ast.Name):
        yield node.target.id, node.value


def said_by_script():
    """Yield why the script in the container sends no file, which it writes behind the word `none`."""
    source = (PACKAGE / "authoring/artifact_script.py").read_text()
    for text in itertools.chain(*re.findall(r"""['"]none ([^'"\n]+)|lack='([^']+)'""", source)):
        if text:
            yield Message("authoring/artifact_script.py", 0, re.sub(r"\$\(.*|\$\w+|@\w+@|\\", GAP, text))


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
BASES = {
    node.name: {ast.unparse(base) for base in node.bases}
    for module in MODULES
    for node in ast.walk(module.tree)
    if isinstance(node, ast.ClassDef)
}


def below(root):
    """Return a class and all that are derived from it."""
    found = {root}
    while more := {name for name, bases in BASES.items() if bases & found} - found:
        found |= more
    return found


ARGUMENT_ERRORS = below("ArgumentError")
ERRORS = below("DbtWatchError")
ALL = {
    message
    for message in itertools.chain(said_by_script(), *(module.messages() for module in MODULES))
    if message.is_ours
}
MESSAGES = sorted(message for message in ALL if not message.is_hidden_by)
SAID = [*MESSAGES, *(note for module in MODULES for note in module.notes() if note.is_ours)]
"""What a page may show: messages, and what is logged that is no warning."""
LINES = [plain(line) for line in PAGE.read_text().splitlines()]


def test_every_message_is_found_in_the_documentation():
    missing = [
        f"{message.where}:{message.line}: {message.shown}"
        for message in MESSAGES
        if not any(map(message.is_in, LINES))
    ]
    assert not missing, "\n".join(["docs/messages.md needs a row for", *missing])


def test_the_page_of_messages_shows_only_what_is_said():
    spans = [
        (number, span.strip())
        for number, line in enumerate(PAGE.read_text().splitlines(), 1)
        if line.startswith("| `")
        for _, span in re.findall(r"(`+)(.+?)\1", re.split(r"(?<!\\) \| ", line)[0])
    ]
    unsaid = [
        f"{PAGE.name}:{number}: {span}"
        for number, span in spans
        if not any(message.is_in(plain(span)) for message in SAID)
    ]
    assert not unsaid, "\n".join(["nothing in the package says", *unsaid])


@pytest.mark.parametrize("key", NOT_SHOWN)
def test_what_is_called_invisible_is_there(key):
    assert any(key in message.is_hidden_by for message in ALL)


def test_troubleshooting_shows_messages_as_they_are_said():
    shown = [
        plain(span).strip()
        for line in (PAGE.parent / "troubleshooting.md").read_text().splitlines()
        for _, span in re.findall(r"(`+)(.+?)\1", line)
        if len(span.split()) > 3
    ]
    unsaid = [
        span
        for span in shown
        if not any(part in span for part in FOREIGN) and not any(message.is_in(span) for message in SAID)
    ]
    assert not unsaid
