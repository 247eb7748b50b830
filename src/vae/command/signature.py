"""What a class or function takes, read from its source: importing torch takes seconds, reading a file some ms."""

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vae.checks import NULL, TRUE_OR_FALSE, Choice, Kind, ListOf, Number, Text, Whole

WHOLE = Whole(-(2**63), 2**63 - 1)
KINDS: dict[str, Kind] = {
    "bool": TRUE_OR_FALSE,
    "int": WHOLE,
    "float": Number(),
    "str": Text(),
    "None": NULL,
}
PASSES_ON = {"lightning.pytorch.loggers.wandb.WandbLogger": "wandb.sdk.wandb_init.init"}
"""Where a class that says nothing of it in its source gives its **kwargs to."""


@dataclass(frozen=True)
class Signature:
    """Arguments by name: their kind, None where a config's value may be anything; and which must be given.

    takes_any: whether there may be arguments of any other name.
    """

    arguments: dict[str, Kind | None]
    required: frozenset[str]
    takes_any: bool = False


@dataclass(frozen=True)
class _Found:
    """A class or function in its module's source."""

    module: str
    node: ast.ClassDef | ast.FunctionDef


@cache
def signature(name: str) -> Signature | None:
    """Return what `package.module.Class` takes; None where that cannot be read from Python's source."""
    found = _find(name)
    return None if found is None else _signature_of(found)


def _signature_of(found: _Found) -> Signature | None:
    if isinstance(found.node, ast.FunctionDef):
        return _of_function(found.node, skip=0)
    methods = [node for node in found.node.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    own = _of_function(methods[-1], skip=1) if methods else _of_fields(found.node)
    if own is not None and not own.takes_any:
        return own
    further = PASSES_ON.get(f"{found.module}.{found.node.name}")
    bases = [further] if further else [f"{found.module}.{ast.unparse(base)}" for base in found.node.bases]
    for base in bases:
        if (above := signature(base)) is not None:
            arguments = {**above.arguments, **(own.arguments if own else {})}
            required = above.required | (own.required if own else frozenset())
            return Signature(arguments, required, above.takes_any)
    return own or Signature({}, frozenset())


def _of_fields(node: ast.ClassDef) -> Signature | None:
    """Return what a class takes whose constructor is made of its fields, such as a dataclass or a model of
    pydantic's.
    """
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)]
    named = {each.target.id: each for each in fields if isinstance(each.target, ast.Name)}
    required = [name for name, each in named.items() if each.value is None]
    kinds = {name: _kind(each.annotation) for name, each in named.items() if not name.startswith("_")}
    return Signature(kinds, frozenset(required)) if kinds else None


def _of_function(node: ast.FunctionDef, skip: int) -> Signature:
    positional = [*node.args.posonlyargs, *node.args.args]
    plain = len(positional) - len(node.args.defaults)
    required = [arg.arg for arg in positional[skip:plain]]
    required += [
        arg.arg for arg, given in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if given is None
    ]
    arguments = {arg.arg: _kind(arg.annotation) for arg in [*positional[skip:], *node.args.kwonlyargs]}
    return Signature(arguments, frozenset(required), node.args.kwarg is not None)


def _kind(annotation: ast.expr | None) -> Kind | None:
    """Return the kind that an annotation says, None where it says more than plain values."""
    match annotation:
        case ast.Constant(value=str(text)):
            return _kind(ast.parse(text, mode="eval").body)
        case ast.Constant(value=None):
            return NULL
        case ast.Name(id=name):
            return KINDS.get(name)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _either([left, right])
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _either([ast.Constant(None), inner])
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=inner)):
            return _either(inner)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            each = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return Choice(tuple(value.value for value in each if isinstance(value, ast.Constant)))
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return None if (kind := _kind(inner)) is None else ListOf(kind)
    return None


def _either(annotations: list[ast.expr]) -> Kind | None:
    # No config holds a tensor.
    kinds = [_kind(each) for each in annotations if ast.unparse(each) not in ("Tensor", "torch.Tensor")]
    found = kinds[0]
    for kind in kinds[1:]:
        found = None if found is None or kind is None else found | kind
    return found


def _find(name: str) -> _Found | None:
    """Return the class or function of this full name, wherever its package takes it from."""
    top, *parts = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    file, module = Path(spec.origin), top
    while parts:
        folder = file.parent if file.name == "__init__.py" else None
        below = [] if folder is None else [folder / parts[0] / "__init__.py", folder / f"{parts[0]}.py"]
        there = next((path for path in below if path.is_file()), None)
        if there is None:
            return _within(file, module, parts[0]) if len(parts) == 1 else None
        file, module, parts = there, f"{module}.{parts[0]}", parts[1:]
    return None


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _within(file: Path, module: str, name: str) -> _Found | None:
    """Return the class or function that a module calls `name`: its own, or one that it imports."""
    imported, anything = None, list[str]()
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name and node.col_offset == 0:
            return _Found(module, node)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    imported = f"{_absolute(node, module, file)}.{alias.name}"
                elif alias.name == "*":
                    anything.append(f"{_absolute(node, module, file)}.{name}")
    places = anything if imported is None else [imported]
    return next((found for place in places if (found := _find(place)) is not None), None)


def _absolute(node: ast.ImportFrom, module: str, file: Path) -> str:
    """Return the module that is imported from, which a relative import names from where it stands."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])
