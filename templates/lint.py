"""What can be seen in a template without running it: names that nobody declared, and what is not for templates."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from templates.drafts import Draft, Finding
from templates.files import FILES, GIVEN, OPTIONAL, SHARED
from templates.formats import nearest
from templates.rules import MAX_FILE, MAX_FILES
from templates.shapes import SCALARS, Listing, Record, Shape, is_locale

# All that templates have; the others of Jinja switch escaping off, reach for attributes, or make much of little.
FILTERS = frozenset(
    {
        "abs",
        "capitalize",
        "count",
        "d",
        "day",
        "default",
        "e",
        "escape",
        "first",
        "float",
        "int",
        "join",
        "last",
        "length",
        "link",
        "list",
        "lower",
        "max",
        "min",
        "moment",
        "money",
        "number",
        "percent",
        "round",
        "short_day",
        "sort",
        "striptags",
        "sum",
        "title",
        "trim",
        "truncate",
        "unique",
        "upper",
        "urlencode",
        "wordcount",
    }
)
PARTS = frozenset(part for named in (FILES, OPTIONAL) for parts in named.values() for part in parts)
# Of `loop`, and of a template itself.
_LOOP_CALLS = frozenset({"cycle", "changed"})
_HTTP = re.compile(r"http://(?!www\.w3\.org/)", re.IGNORECASE)
_NUMBERS = (SCALARS["integer"], SCALARS["number"])

# What a name stands for; None where that is not known.
Scope = Mapping[str, Shape | None]


def lint(draft: Draft, data: Record, environment: ImmutableSandboxedEnvironment) -> Iterator[Finding]:
    """Yield what is wrong with the files of a draft, each for itself and together."""
    yield from _odd_files(draft)
    trees: dict[str, nodes.Template] = {}
    for file, text in draft.files.items():
        if file.endswith(".css"):
            continue
        yield from _http(file, text)
        try:
            trees[file] = environment.parse(text)
        except TemplateSyntaxError as error:
            yield Finding(file, error.lineno, "syntax", error.message or "cannot be read")
        except (ValueError, RecursionError):
            yield Finding(file, 0, "syntax", "cannot be read")
    shared = {file for file in trees if file.startswith(f"{SHARED}/")}
    scope = {**{name: shape for name, shape, _ in data.members}, **dict.fromkeys(GIVEN, _LINE)}
    for file, tree in trees.items():
        yield from sorted(_Walk(file, tree, shared).findings(scope))
    yield from _circles(trees)


_LINE = SCALARS["line"]


def _odd_files(draft: Draft) -> Iterator[Finding]:
    if len(draft.files) > MAX_FILES:
        yield Finding("", 0, "file", f"has more than {MAX_FILES} files")
    for file, text in draft.files.items():
        folder, _, part = file.rpartition("/")
        if folder.partition("/")[0] != SHARED and not (
            is_locale(folder) and folder == nearest(folder)[0] and part in PARTS
        ):
            yield Finding(file, 0, "file", f"is none of a template: LANGUAGE/ and {', '.join(sorted(PARTS))}")
        if len(text.encode()) > MAX_FILE:
            yield Finding(file, 0, "file", f"is over {MAX_FILE} bytes")


def _http(file: str, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), 1):
        if _HTTP.search(line):
            yield Finding(file, number, "http-link", "links by http: write https")


def _circles(trees: Mapping[str, nodes.Template]) -> Iterator[Finding]:
    """Yield the shared files that take themselves in, also by way of others."""
    taken = {file: {name for _, name in _references(tree) if name} for file, tree in trees.items()}
    for file, first in taken.items():
        reached, todo = set[str](), list(first)
        while todo:
            if (found := todo.pop()) not in reached:
                reached.add(found)
                todo.extend(taken.get(found, ()))
        if file in reached:
            yield Finding(file, 0, "include", "takes itself in")


def _references(tree: nodes.Template) -> Iterator[tuple[int, str | None]]:
    for node in tree.find_all(nodes.Stmt):
        if not isinstance(node, nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport):
            continue
        named = node.template
        yield node.lineno, named.value if isinstance(named, nodes.Const) and isinstance(named.value, str) else None


class _Walk:
    """Goes through one file; knows at each place which names there are, and of which shape."""

    def __init__(self, file: str, tree: nodes.Template, shared: set[str]) -> None:
        self._file = file
        self._tree = tree
        self._shared = shared
        self._found: set[Finding] = set()
        self._callable = {name for node in tree.find_all(nodes.FromImport) for name in map(_as, node.names)}
        self._modules = {node.target for node in tree.find_all(nodes.Import)}
        self._macros = {node.name for node in tree.find_all(nodes.Macro)}
        self._in_block = False

    def findings(self, scope: Scope) -> set[Finding]:
        for line, name in _references(self._tree):
            if name not in self._shared:
                self._fault(
                    line, "include", f"takes in {name or 'what is named at run time'}: only shared files can be"
                )
        sets = self._tree.find_all((nodes.Assign, nodes.AssignBlock))
        assigned = {name.name for one in sets for name in one.find_all(nodes.Name) if name.ctx == "store"}
        named = self._callable | self._modules | self._macros
        self._visit(self._tree, {**scope, **dict.fromkeys(assigned | named), "self": None})
        return self._found

    def _fault(self, line: int, rule: str, message: str) -> None:
        self._found.add(Finding(self._file, line, rule, message))

    def _visit(self, node: nodes.Node, scope: Scope) -> None:
        match node:
            case nodes.For():
                self._visit_for(node, scope)
            case nodes.Macro():
                inner = {**scope, **dict.fromkeys([*(arg.name for arg in node.args), "caller", "varargs", "kwargs"])}
                self._visit_children(node, inner)
                # From here on, so that none calls itself, directly or by another.
                self._callable.add(node.name)
            case nodes.Block():
                outside, self._in_block = self._in_block, True
                self._visit_children(node, {**scope, "super": None})
                self._in_block = outside
            case nodes.Call():
                self._visit_call(node, scope)
            case nodes.Getattr() | nodes.Getitem():
                self._shape(node, scope)
                self._visit_children(node, scope)
            case nodes.Name(ctx="load") if node.name not in scope:
                self._fault(node.lineno, "undeclared", f"{node.name} is not among the data")
            case nodes.Filter():
                self._visit_filter(node, scope)
            case nodes.Pow() | nodes.Mul() | nodes.Mod() | nodes.Div() | nodes.FloorDiv():
                self._visit_arithmetic(node, scope)
            case nodes.EvalContextModifier():
                self._fault(node.lineno, "unsafe", "changes how HTML is escaped")
            case _:
                self._visit_children(node, scope)

    def _visit_children(self, node: nodes.Node, scope: Scope) -> None:
        for child in node.iter_child_nodes():
            self._visit(child, scope)

    def _visit_for(self, node: nodes.For, scope: Scope) -> None:
        if node.recursive:
            self._fault(node.lineno, "costly", "is a loop that calls itself")
        over = self._shape(node.iter, scope)
        self._visit(node.iter, scope)
        inner = {**scope, "loop": None}
        if isinstance(node.target, nodes.Name):
            inner[node.target.name] = over.element if isinstance(over, Listing) else None
        for child in (*node.body, *([node.test] if node.test else [])):
            self._visit(child, inner)
        for child in node.else_:
            self._visit(child, scope)

    def _visit_call(self, node: nodes.Call, scope: Scope) -> None:
        called = node.node
        match called:
            case nodes.Name(name=name) if name in self._callable or (name in {"super", "caller"} and name in scope):
                pass
            case nodes.Name(name=name) if name in self._macros:
                self._fault(node.lineno, "costly", f"{name} calls itself, or is called before it is defined")
            case nodes.Name(name=name) if name not in scope:
                self._fault(node.lineno, "undeclared", f"{name} is not among the data")
            case nodes.Getattr(node=nodes.Name(name="self")) if not self._in_block:
                pass
            case nodes.Getattr(node=nodes.Name(name=module)) if module in self._modules:
                pass
            case nodes.Getattr(node=nodes.Name(name="loop"), attr=attr) if attr in _LOOP_CALLS:
                pass
            case _:
                self._fault(node.lineno, "unsafe", "calls something that is no macro")
        self._shape(called, scope)
        for child in node.iter_child_nodes(exclude=("node",)):
            self._visit(child, scope)

    def _visit_filter(self, node: nodes.Filter, scope: Scope) -> None:
        if node.name in {"safe", "forceescape", "attr", "map", "xmlattr", "tojson"}:
            self._fault(node.lineno, "unsafe", f"the filter {node.name} is not for templates")
        elif node.name not in FILTERS:
            self._fault(node.lineno, "unknown-filter", f"there is no filter {node.name}")
        self._visit_children(node, scope)

    def _visit_arithmetic(self, node: Any, scope: Scope) -> None:
        if isinstance(node, nodes.Pow):
            self._fault(node.lineno, "costly", "raises to a power")
        elif not (self._is_number(node.left, scope) and self._is_number(node.right, scope)):
            self._fault(node.lineno, "costly", f"{node.operator} is for numbers")
        self._visit_children(node, scope)

    def _is_number(self, node: nodes.Node, scope: Scope) -> bool:
        match node:
            case nodes.Const(value=int() | float()):
                return True
            case nodes.Add() | nodes.Sub() | nodes.Mul() | nodes.Div() | nodes.FloorDiv() | nodes.Mod():
                return self._is_number(node.left, scope) and self._is_number(node.right, scope)
            case nodes.Filter(name=name):
                return name in {"int", "float", "length", "count"}
            case _:
                return self._shape(node, scope) in _NUMBERS

    def _shape(self, node: nodes.Node, scope: Scope) -> Shape | None:
        """Return the shape of an expression, as far as that is known; what cannot be is a finding."""
        match node:
            case nodes.Name(name=name):
                return scope.get(name)
            case nodes.Getattr(attr=str(attr)) | nodes.Getitem(arg=nodes.Const(value=str(attr))):
                return self._member(node, attr, scope)
            case nodes.Getitem():
                over = self._shape(node.node, scope)
                return over.element if isinstance(over, Listing) else None
            case _:
                return None

    def _member(self, node: Any, name: str, scope: Scope) -> Shape | None:
        if name.startswith("_"):
            self._fault(node.lineno, "unsafe", f"{name} is behind a value, not of it")
            return None
        of = self._shape(node.node, scope)
        if isinstance(of, Record):
            if name not in of.names:
                self._fault(node.lineno, "undeclared", f"{name} is not among the members of {_spoken(node.node)}")
            return next((shape for member, shape, _ in of.members if member == name), None)
        if of is not None:
            self._fault(node.lineno, "undeclared", f"{_spoken(node.node)} has no members, and so no {name}")
        return None


def _as(name: str | tuple[str, str]) -> str:
    return name if isinstance(name, str) else name[1]


def _spoken(node: nodes.Node) -> str:
    match node:
        case nodes.Name(name=name):
            return name
        case nodes.Getattr(attr=attr):
            return f"{_spoken(node.node)}.{attr}"
        case _:
            return "it"
