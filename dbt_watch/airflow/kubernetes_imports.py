"""
An import of the Kubernetes clients that loads the few of their 1,600 modules that are used.

`kubernetes.client` and `kubernetes_asyncio.client` have a module for each kind of object in a cluster and for each part of its
API, and load them all; the pod operator uses a few dozen. Airflow parses a DAG file in a new process each time, which would pay
for all of them: 0.2 s of CPU and 60 MB (docs/decisions/0016-a-parse-loads-few-modules-of-kubernetes.md).
"""

from __future__ import annotations

import importlib
import re
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

_PACKAGES: Final = frozenset(
    f"{client}.client{part}"
    for client in ("kubernetes", "kubernetes_asyncio")
    for part in ("", ".api", ".models")
)


def load_used_modules_only() -> None:
    """
    From now on, have a Kubernetes client that is imported load each of its modules when a name of it is first used.

    It has the same names, and they stand for the same things. A client that is loaded already stays as it is; so does one
    whose packages do more than import names from their modules.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _PACKAGES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        homes = homes_of(spec.loader.get_source(fullname) or "")
        if homes is None:
            return None
        return spec_from_file_location(
            fullname,
            spec.origin,
            loader=_LazyPackage(fullname, spec.loader.path, homes),
            submodule_search_locations=spec.submodule_search_locations,
        )


class _LazyPackage(SourceFileLoader):
    def __init__(self, fullname: str, path: str, homes: Mapping[str, str]) -> None:
        super().__init__(fullname, path)
        self._homes = homes

    def exec_module(self, module: ModuleType) -> None:
        homes = self._homes

        def get(name: str) -> Any:
            if name in homes:
                value = vars(module)[name] = getattr(importlib.import_module(homes[name]), name)
                return value
            # Whoever loads a whole package finds its modules bound to it too.
            submodule = f"{module.__name__}.{name}"
            if not name.startswith("__") and find_spec(submodule) is not None:
                return importlib.import_module(submodule)
            raise AttributeError(
                f"module {module.__name__!r} has no attribute {name!r}", name=name, obj=module
            )

        names = vars(module)
        names.update(__getattr__=get, __dir__=lambda: sorted({*names, *homes}), __all__=[*homes])
        names.update(_VERSION.findall(self.get_source(module.__name__) or ""))


def homes_of(source: str) -> dict[str, str] | None:
    """
    Return in which module each name of a package is; None when its `__init__` does more than import them.

    :param source: the text of the `__init__`
    """
    code = _DOCSTRING.sub("", source)
    if _UNREMARKABLE.sub("", code).strip():
        return None
    homes = {name: module for module, name in _IMPORT.findall(code)}
    # Python binds a module to its package under its own name, and so would take the place of such a name.
    return None if any(module.rpartition(".")[2] == name for name, module in homes.items()) else homes


_IMPORT: Final = re.compile(r"^from ((?!__future__)\w[\w.]*) import (\w+)$", re.MULTILINE)
_VERSION: Final = re.compile(r'^(__version__) = "([^"\\]+)"$', re.MULTILINE)
_DOCSTRING: Final = re.compile(r'^"""[^"]*"""$', re.MULTILINE)
_UNREMARKABLE: Final = re.compile(
    r'^(?:from \w[\w.]* import \w+|#.*|__version__ = "[^"\\]+"|__all__ = \[|    "\w+",|\])$', re.MULTILINE
)
