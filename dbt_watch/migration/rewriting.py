"""
Rewrites the source of a DAG file: finds each `DbtDag(...)` and `DbtTaskGroup(...)`, and puts a decorated function in its place.

`migration.command` calls it. Comments, and all that has nothing to do with Cosmos, stay as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from dbt_watch.migration.arguments import Project, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PROJECTS: Final = frozenset({"DbtDag", "DbtTaskGroup"})
_CONFIGS: Final = {
    "project_config": ("ProjectConfig", "of_project", ("dbt_project_path",)),
    "profile_config": ("ProfileConfig", "of_profile", ("profile_name", "target_name")),
    "execution_config": ("ExecutionConfig", "of_execution", ("execution_mode",)),
    "render_config": ("RenderConfig", "of_render", ()),
}
"""By argument: the class, what takes its arguments, and the names of those that may be given by position."""


class Obstacle(NamedTuple):
    """
    Something that was not rewritten.

    :param line: where it begins
    :param text: what it is, and why
    """

    line: int
    text: str


class Made(NamedTuple):
    """
    A project, rewritten.

    :param source: the statements in its place
    :param used: the names of the variables that its configurations came from
    :param is_dag: whether it is a whole DAG
    """

    source: str
    used: frozenset[str]
    is_dag: bool


def rewritten(source: str) -> tuple[str, list[Obstacle]]:
    """
    Return the source of a DAG file with its projects rewritten, and what was left.

    :raises libcst.ParserSyntaxError: when it is no Python
    """
    wrapper = MetadataWrapper(cst.parse_module(source))
    module = wrapper.module
    lines = wrapper.resolve(PositionProvider)
    names = _assigned(module)
    made: dict[cst.CSTNode, Made] = {}
    problems: list[Obstacle] = []
    found = list(_projects_in(module))
    for statement, call in found:
        line = lines[call].start.line
        if statement is None:
            name = _name(call)
            problems.append(
                Obstacle(line, f"{name} is neither a separate statement nor assigned to a single name")
            )
            continue
        try:
            made[statement] = _Writer(module, names).write(statement, call)
        except Unknown as error:
            problems.append(Obstacle(line, f"{_name(call)}: {error}"))
    if not found:
        problems.append(Obstacle(1, "there is no DbtDag or DbtTaskGroup"))
    if not made:
        return source, problems
    return _replaced(module, made), sorted(problems)


def _replaced(module: cst.Module, made: Mapping[cst.CSTNode, Made]) -> str:
    changed = module.visit(_Replacer(made))
    used = frozenset().union(*(each.used for each in made.values()))
    changed = changed.visit(_Remover(used, changed))
    builds = any("return dbt_build(" in each.source for each in made.values())
    imports = [f"from dbt_watch import {'dbt_build, ' if builds else ''}dbt_k8s_project"]
    if any(each.is_dag for each in made.values()):
        imports.insert(0, "from airflow.sdk import dag")
    return _with_imports(changed, imports)


def _with_imports(module: cst.Module, imports: Sequence[str]) -> str:
    """Return the source with imports behind the last one that stands at its beginning."""
    known = {module.code_for_node(item).strip() for item in module.body}
    new = [cst.parse_statement(text) for text in imports if text not in known]
    body = list(module.body)
    places = [number for number, item in enumerate(body, 1) if _is_import(item)]
    first_code = next((number for number, item in enumerate(body) if not _is_docstring(item)), len(body))
    at = places[-1] if places else first_code
    return module.with_changes(body=[*body[:at], *new, *body[at:]]).code


# What is found.


def _projects_in(module: cst.Module) -> Iterator[tuple[cst.SimpleStatementLine | None, cst.Call]]:
    """Yield each project with the statement that it is; None where it stands in the middle of another."""
    finder = _Finder()
    module.visit(finder)
    for call in finder.calls:
        yield finder.statements.get(call), call


class _Finder(cst.CSTVisitor):
    def __init__(self) -> None:
        self.calls: list[cst.Call] = []
        self.statements: dict[cst.Call, cst.SimpleStatementLine] = {}

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:  # noqa: N802 - libcst's name
        call = _whole_value(node)
        if call is not None:
            self.statements[call] = node

    def visit_Call(self, node: cst.Call) -> None:  # noqa: N802 - libcst's name
        if _name(node) in _PROJECTS:
            self.calls.append(node)


def _whole_value(statement: cst.SimpleStatementLine) -> cst.Call | None:
    """Return the call that a statement is, or assigns to one name."""
    if len(statement.body) != 1:
        return None
    inner = statement.body[0]
    if isinstance(inner, cst.Expr) and isinstance(inner.value, cst.Call):
        return inner.value
    if _target(statement) is not None and isinstance(inner, cst.Assign) and isinstance(inner.value, cst.Call):
        return inner.value
    return None


def _target(statement: cst.SimpleStatementLine) -> str | None:
    inner = statement.body[0]
    if isinstance(inner, cst.Assign) and len(inner.targets) == 1:
        target = inner.targets[0].target
        return target.value if isinstance(target, cst.Name) else None
    return None


def _name(call: cst.Call) -> str:
    """Return the last word of what is called."""
    function = call.func
    if isinstance(function, cst.Attribute):
        return function.attr.value
    return function.value if isinstance(function, cst.Name) else ""


def _assigned(module: cst.Module) -> dict[str, cst.BaseExpression]:
    """Return what the names at the top of a module stand for, as far as each is assigned once."""
    found: dict[str, list[cst.BaseExpression]] = {}
    for statement in module.body:
        if isinstance(statement, cst.SimpleStatementLine) and (name := _target(statement)) is not None:
            inner = cst.ensure_type(statement.body[0], cst.Assign)
            found.setdefault(name, []).append(inner.value)
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def _is_import(statement: Any) -> bool:
    return isinstance(statement, cst.SimpleStatementLine) and isinstance(
        statement.body[0], cst.Import | cst.ImportFrom
    )


def _is_docstring(statement: Any) -> bool:
    return (
        isinstance(statement, cst.SimpleStatementLine)
        and isinstance(statement.body[0], cst.Expr)
        and isinstance(statement.body[0].value, cst.SimpleString | cst.ConcatenatedString)
    )


# What is written.


class _Writer:
    """Writes one project anew."""

    def __init__(self, module: cst.Module, names: Mapping[str, cst.BaseExpression]) -> None:
        self._module = module
        self._names = names
        self._used: set[str] = set()

    def write(self, statement: cst.SimpleStatementLine, call: cst.Call) -> Made:
        """
        Return what comes in the place of a statement.

        :raises Unknown: when something in it cannot be rewritten
        """
        is_dag = _name(call) == "DbtDag"
        given = self._arguments(call, () if is_dag else ("group_id",))
        project = Project()
        for argument, (kind, method, by_position) in _CONFIGS.items():
            if (value := given.pop(argument, None)) is not None:
                config = self._followed(value)
                if not isinstance(config, cst.Call) or _name(config) != kind:
                    raise Unknown(f"{argument} is not {kind}(...)")
                getattr(project, method)(self._texts(self._arguments(config, by_position)))
        if (value := given.pop("operator_args", None)) is not None:
            project.of_operator(self._items(value))
        if (value := given.pop("on_warning_callback", None)) is not None:
            project.set("on_warning_callback", self._text(value))
        project.finish()
        rest = self._texts(given)
        target = _target(statement)
        write = self._dag if is_dag else self._group
        return Made(write(project, rest, target), frozenset(self._used), is_dag)

    def _group(self, project: Project, rest: dict[str, str], target: str | None) -> str:
        group_id = rest.pop("group_id", '"dbt_task_group"')
        if rest:
            raise Unknown(
                f"{', '.join(rest)}: pass it to a TaskGroup around the project, or to the decorator"
            )
        name = _function_name(group_id)
        if f'"{name}"' != group_id.replace("'", '"'):
            project.decorator["group_id"] = group_id
        call = f"{name}()" if target is None else f"{target} = {name}()"
        return f"{_function(project, name)}\n{call}\n"

    def _dag(self, project: Project, rest: dict[str, str], target: str | None) -> str:
        name = target or _function_name(rest.get("dag_id", '"dbt_dag"'))
        body = _function(project, "dbt_project") + "\ndbt_project()\n"
        indented = "".join(f"    {line}" if line.strip() else line for line in body.splitlines(keepends=True))
        arguments = _lines(rest)
        call = f"{name}()" if target is None else f"{target} = {name}()"
        return f"@dag({arguments})\ndef {name}():\n{indented}\n\n{call}\n"

    def _arguments(self, call: cst.Call, by_position: Sequence[str]) -> dict[str, cst.BaseExpression]:
        found: dict[str, cst.BaseExpression] = {}
        for number, argument in enumerate(call.args):
            if argument.star:
                raise Unknown(f"{self._text(argument.value)} is unpacked into the arguments of {_name(call)}")
            if argument.keyword is not None:
                found[argument.keyword.value] = argument.value
            elif number < len(by_position):
                found[by_position[number]] = argument.value
            else:
                raise Unknown(f"{self._text(argument.value)} is a positional argument of {_name(call)}")
        return found

    def _items(self, value: cst.BaseExpression) -> dict[str, str]:
        items = self._followed(value)
        if isinstance(items, cst.Call) and _name(items) == "dict":
            return self._texts(self._arguments(items, ()))
        if not isinstance(items, cst.Dict):
            raise Unknown("operator_args is not a literal dict")
        found = {}
        for element in items.elements:
            key = element.key if isinstance(element, cst.DictElement) else None
            if not isinstance(key, cst.SimpleString):
                raise Unknown(f"{self._text(element)} in operator_args is not a named item")
            found[str(key.evaluated_value)] = self._text(element.value)
        return found

    def _followed(self, value: cst.BaseExpression) -> cst.BaseExpression:
        """Return what a name stands for; anything else as it is."""
        if isinstance(value, cst.Name) and value.value in self._names:
            self._used.add(value.value)
            return self._names[value.value]
        return value

    def _texts(self, values: Mapping[str, cst.BaseExpression]) -> dict[str, str]:
        return {name: self._text(value) for name, value in values.items()}

    def _text(self, value: cst.CSTNode) -> str:
        return self._module.code_for_node(value)


def _function(project: Project, name: str) -> str:
    returned = f"return dbt_build({_lines(project.build)})" if project.build else "..."
    body = "\n".join(f"    {line}" for line in returned.split("\n"))
    return f"@dbt_k8s_project({_lines(project.decorator)})\ndef {name}():\n{body}\n\n"


_FEW: Final = 60


def _lines(arguments: Mapping[str, str]) -> str:
    """Return arguments in one line where they are short, each in a line of its own otherwise."""
    texts = [f"{name}={value}" for name, value in arguments.items()]
    if sum(map(len, texts)) <= _FEW and not any("\n" in text for text in texts):
        return ", ".join(texts)
    return "\n" + "".join(f"    {text},\n" for text in texts)


def _function_name(text: str) -> str:
    """Return a name for a function from the source text of an id."""
    word = re.sub(r"\W+", "_", text.strip("\"'")).strip("_")
    return word if word.isidentifier() else f"dbt_{word}"


class _Replacer(cst.CSTTransformer):
    """Puts what was written in the place of statements."""

    def __init__(self, made: Mapping[cst.CSTNode, Made]) -> None:
        self._made = made

    def leave_SimpleStatementLine(  # noqa: N802 - libcst's name
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> Any:
        made = self._made.get(original_node)
        if made is None:
            return updated_node
        first, *rest = cst.parse_module(made.source).body
        return cst.FlattenSentinel([first.with_changes(leading_lines=updated_node.leading_lines), *rest])


class _Remover(cst.CSTTransformer):
    """Removes the variables of configurations, and the imports of Cosmos, that nothing uses any more."""

    def __init__(self, used: frozenset[str], module: cst.Module) -> None:
        self._used = used
        counter = _Counter()
        module.visit(counter)
        self._counts = counter.counts
        for statement in module.body:
            name = _target(statement) if isinstance(statement, cst.SimpleStatementLine) else None
            if (
                isinstance(statement, cst.SimpleStatementLine)
                and name in used
                and self._counts[name or ""] == 1
            ):
                gone = _Counter()
                statement.visit(gone)
                for word, count in gone.counts.items():
                    self._counts[word] -= count

    def leave_SimpleStatementLine(  # noqa: N802 - libcst's name
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> Any:
        name = _target(original_node)
        if not updated_node.body or (name is not None and name in self._used and self._counts[name] == 0):
            return cst.RemoveFromParent()
        return updated_node

    def leave_ImportFrom(self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom) -> Any:  # noqa: N802
        if not _is_of_cosmos(original_node.module) or isinstance(original_node.names, cst.ImportStar):
            return updated_node
        kept = [alias for alias in original_node.names if self._counts.get(_bound(alias), 0) > 0]
        if not kept:
            return cst.RemoveFromParent()
        kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        return updated_node.with_changes(names=kept)


class _Counter(cst.CSTVisitor):
    """Counts the names in a module, those in imports left out."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:  # noqa: N802, ARG002 - libcst's name
        return False

    def visit_Import(self, node: cst.Import) -> bool:  # noqa: N802, ARG002 - libcst's name
        return False

    def visit_Name(self, node: cst.Name) -> None:  # noqa: N802 - libcst's name
        self.counts[node.value] = self.counts.get(node.value, 0) + 1


def _bound(alias: cst.ImportAlias) -> str:
    name = alias.asname.name if alias.asname is not None else alias.name
    return name.value if isinstance(name, cst.Name) else ""


def _is_of_cosmos(module: cst.Attribute | cst.Name | None) -> bool:
    while isinstance(module, cst.Attribute):
        module = module.value if isinstance(module.value, cst.Attribute | cst.Name) else None
    return isinstance(module, cst.Name) and module.value == "cosmos"
