"""Arithmetic over variables, as flowgraphs write it; worked out by walking the syntax tree, never by eval.

numbers, variables, pi, e, inf, + - * / // % **, parentheses, and the functions of FUNCTIONS. Everything is bounded:
the length and depth of an expression, and the size of every number on the way, so that no text costs more than
microseconds.
"""

import ast
import keyword
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from beamslot.errors import BadParam
from beamslot.runtime.graph import near, shown

MAX_LENGTH = 256
MAX_DEPTH = 64
MAX_BITS = 256
"""Whole numbers are exact up to so many bits, and refused beyond."""

Number = int | float

NOTHING: Mapping[str, Any] = MappingProxyType({})

CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "inf": math.inf}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "exp": math.exp,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "abs": abs,
    "min": min,
    "max": max,
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
}

_STRAY = re.compile(r"[^A-Za-z0-9_.+\-*/%(), ]")
_ALLOWED = "wanted numbers and variables with + - * / // % ** and functions such as sqrt, log10, max"


def is_taken(name: str) -> bool:
    """Return whether a name means something in an expression already, so that no variable can have it.

    >>> is_taken("pi"), is_taken("sqrt"), is_taken("lambda"), is_taken("n_y")
    (True, True, True, False)
    """
    return name in CONSTANTS or name in FUNCTIONS or keyword.iskeyword(name)


@dataclass(frozen=True)
class Expression:
    """An arithmetic expression that has been read but not worked out.

    text: as written    names: the variables in it, in the order written
    """

    text: str
    tree: ast.expr
    names: tuple[str, ...]

    def value(self, variables: Mapping[str, Any]) -> Number:
        """Return the value.

        raises BadParam saying what went wrong and at which character
        """
        for node in _names(self.tree):
            _check_known(node, variables)
        return _value(self.tree, variables)


def parse(text: str) -> Expression:
    """Return the expression that a text is.

    raises BadParam saying why it is none, and at which character

    >>> parse("n_y * (2 + sqrt(n_z))").names
    ('n_y', 'n_z')
    """
    text = " ".join(text.split())
    if len(text) > MAX_LENGTH:
        raise BadParam(f"{len(text)} characters are too long for an expression; wanted at most {MAX_LENGTH}")
    stray = _STRAY.search(text)
    if stray:
        raise BadParam(f"{stray[0]!r} (character {stray.start() + 1}) has no place in an expression; {_ALLOWED}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        spot = getattr(error, "offset", None) or len(text)
        raise BadParam(f"is no expression (see character {spot}); {_ALLOWED}") from None
    _check(tree)
    return Expression(text, tree, tuple(dict.fromkeys(n.id for n in _names(tree) if n.id not in CONSTANTS)))


def evaluate(text: str, variables: Mapping[str, Any] = NOTHING) -> Number:
    """Return the value of an expression over variables.

    raises BadParam saying what went wrong and at which character

    >>> evaluate("n_y * 72", {"n_y": 64}), evaluate("10 ** (3 / 10)"), evaluate("7 // 2")
    (4608, 1.9952623149688795, 3)
    """
    return parse(text).value(variables)


def _names(tree: ast.expr) -> list[ast.Name]:
    """Return what stands for a value, in the order written."""
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in functions]
    return sorted(found, key=lambda node: node.col_offset)


def _check_known(node: ast.Name, variables: Mapping[str, Any]) -> None:
    if node.id in CONSTANTS:
        return
    if node.id not in variables:
        raise BadParam(
            f"no variable is called {node.id!r} ({_spot(node)}); {near(node.id, {**variables, **CONSTANTS})}"
        )
    if not isinstance(variables[node.id], int | float):
        raise BadParam(f"the variable {node.id!r} ({_spot(node)}) is {shown(variables[node.id])}, no number")


def _check(tree: ast.expr) -> None:
    """Refuse what is no arithmetic, and what is too deep, without recursion."""
    waiting: list[tuple[ast.AST, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise BadParam(f"nests deeper than {MAX_DEPTH}")
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                if number == math.inf or _is_long(number):
                    raise BadParam(f"{_cited(node)} is too large a number")
            case ast.Name() if node.id not in FUNCTIONS:
                pass
            case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
                waiting.append((node.operand, depth + 1))
            case ast.BinOp() if type(node.op) in _OPERATORS:
                waiting += [(node.left, depth + 1), (node.right, depth + 1)]
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
                _check_count(node, name)
                waiting += [(argument, depth + 1) for argument in node.args]
            case _:
                raise BadParam(_refusal(node))


def _refusal(node: Any) -> str:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
            return f"no function is called {name!r} ({_spot(node)}); {near(name, FUNCTIONS)}"
        case ast.Name(id=name):
            return f"the function {name!r} ({_spot(node)}) has no brackets; wanted {name}(...)"
        case _:
            return f"{_cited(node)} has no place in an expression; {_ALLOWED}"


def _check_count(node: ast.Call, name: str) -> None:
    wanted = "two or more values" if name in ("min", "max") else "one value"
    if len(node.args) < 2 if name in ("min", "max") else len(node.args) != 1:
        raise BadParam(f"{_cited(node)} gives {name} {len(node.args)} values; wanted {wanted}")


def _spot(node: Any) -> str:
    return f"character {getattr(node, 'col_offset', 0) + 1}"


def _value(node: Any, variables: Mapping[str, Any]) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return CONSTANTS[name] if name in CONSTANTS else variables[name]
        case ast.UnaryOp():
            value = _value(node.operand, variables)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.BinOp():
            values = [_value(node.left, variables), _value(node.right, variables)]
            return _apply(node, _OPERATORS[type(node.op)], values)
        case _:
            return _apply(node, FUNCTIONS[node.func.id], [_value(argument, variables) for argument in node.args])


def _apply(node: ast.expr, function: Callable[..., Number], values: list[Number]) -> Number:
    try:
        result = function(*values)
        if abs(result) == math.inf and math.inf not in map(abs, values):
            raise OverflowError
        return _bounded(result, node)
    except ZeroDivisionError:
        problem = "divides by zero"
    except OverflowError:
        problem = "is too large a number"
    except ValueError:
        problem = f"is not defined at {', '.join(shown(value) for value in values)}"
    raise BadParam(f"{_cited(node)} {problem}")


def _bounded(value: Any, node: ast.expr) -> Number:
    if _is_long(value):
        raise OverflowError
    if isinstance(value, complex) or math.isnan(value):
        raise BadParam(f"{_cited(node)} is no real number")
    return value


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > MAX_BITS


def _cited(node: ast.expr) -> str:
    text = ast.unparse(node)
    return f"{text if len(text) <= 60 else f'{text[:57]}...'} ({_spot(node)})"


def _power(base: Number, exponent: Number) -> Number:
    # An exact power is worked out only where the bound on its size says that it is short.
    if isinstance(base, int) and isinstance(exponent, int) and (base.bit_length() - 1) * exponent > MAX_BITS:
        raise OverflowError
    return base**exponent


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
