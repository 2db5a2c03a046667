"""Reads a module: the hash of its syntax tree, and its imports."""

import ast
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping

from kd_heuristics.runs.code_identity import places


@dataclasses.dataclass(frozen=True)
class Source:
    """Contents of a module.

    Attributes:
      name: dotted name.
      is_package: whether it is a package's __init__.
      digest: SHA-256 of its syntax tree.
      uses: imports in use, as "kd_heuristics.points:evaluate".
      imported: origin of each imported name, in the same form.
    """

    name: str
    is_package: bool
    digest: str
    uses: tuple[str, ...]
    imported: Mapping[str, str]


def read(
    name: str, tree: ast.Module, is_package: bool, imported: Mapping[str, str]
) -> Source:
    """Reads a module.

    Args:
      name: dotted name.
      tree: its syntax tree.
      is_package: whether it is a package's __init__.
      imported: names available without an import, and their origins.
    """
    package = name.split(".") if is_package else name.split(".")[:-1]
    bound = {**imported}
    uses: set[str] = set()
    for statement in _imports(tree.body):
        for local, target in _bindings(statement, package):
            if local is None:
                uses.add(target)
            else:
                bound[local] = target
    words = _Words(bound)
    words.visit(tree)
    for local, target in bound.items():
        chains = words.chains.get(local, {""})
        uses |= {join(target, chain) for chain in chains}
    digest = hashlib.sha256("\n".join(words.found).encode("utf-8", "surrogatepass"))
    return Source(name, is_package, digest.hexdigest(), tuple(sorted(uses)), bound)


def join(target: str, chain: str) -> str:
    """Appends a chain of attributes to a target.

    >>> join("a.b", "c.d"), join("a:b", "c"), join("a:b", "")
    ('a.b:c.d', 'a:b.c', 'a:b')
    """
    return f"{target}{'.' if ':' in target else ':'}{chain}" if chain else target


def _imports(body) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yields the imports in some statements, nested ones included."""
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in _dotted(statement.test):
            yield from _imports(statement.orelse)
            continue
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _imports(getattr(statement, field, ()))


def _bindings(statement, package) -> Iterator[tuple[str | None, str]]:
    """Yields (name, dotted path) for each binding; `None` if the import binds none."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            if alias.asname is None and "." in alias.name:
                yield None, alias.name
            local = alias.asname or alias.name.partition(".")[0]
            yield local, alias.name if alias.asname else local
        return
    above = package[: len(package) - statement.level + 1] if statement.level else []
    source = ".".join([*above, *filter(None, [statement.module])])
    for alias in statement.names:
        if alias.name == "*":
            yield None, source
        else:
            yield alias.asname or alias.name, f"{source}:{alias.name}"


class _Words:
    """Collects the parts of a syntax tree that can determine numbers.

    Attributes:
      found: node types, field names and values, the same in all versions of Python.
      chains: attributes read from each name: {"points": {"evaluate"}}.
    """

    def __init__(self, bound: Mapping[str, str]):
        self.bound = bound
        self.found: list[str] = []
        self.chains: dict[str, set[str]] = {}

    def visit(self, node: ast.AST) -> None:
        """Adds a node and its descendants."""
        if isinstance(node, ast.Call) and self._is_shown(*_dotted(node.func)):
            self.found.append("shown")
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
            return
        dotted = _dotted(node)
        if dotted:
            self.chains.setdefault(dotted[0], set()).add(".".join(dotted[1:]))
            self.found.append(".".join(dotted))
            return
        self.found.append(type(node).__name__)
        for field in node._fields:
            value = getattr(node, field, None)
            if value is None or value == [] or field in ("kind", "ctx"):
                continue
            self.found.append(field)
            for part in value if isinstance(value, list) else [value]:
                if not isinstance(part, ast.AST):
                    self.found.append(repr(part))
                elif not _is_idle(part):
                    self.visit(part)
        self.found.append(".")

    def _is_shown(self, *names: str) -> bool:
        """Whether a dotted name refers to something that only displays numbers."""
        target = self.bound.get(names[0], "") if names else ""
        return places.shows(join(target, ".".join(names[1:])).replace(":", "."))

    def _import(self, node):
        """Adds an import, except names that only display numbers."""
        source = (getattr(node, "level", 0), getattr(node, "module", None))
        for alias in node.names:
            if not self._is_shown(alias.asname or alias.name.partition(".")[0]):
                self.found.append(f"{source} {alias.name} as {alias.asname}")


def _dotted(node: ast.AST) -> tuple[str, ...]:
    """Returns the names in an expression like `a.b.c`; () for any other."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def _is_idle(node: ast.AST) -> bool:
    """Whether a statement has no effect: a docstring, `pass` or `...`."""
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str | type(...))
    )
