"""Variables, and what a written value means to the field that it is for.

Whether a field is numeric, text, a truth value or a list is read from its declaration. A text that stands in it

- is replaced by a variable, where it is exactly the name of one whose value the field can take: a text for a field of
  texts, a number for a numeric one, a list for one that takes lists (truth values are always written out);
- is left as it is in a field of texts, and where it is one of the options of a Literal;
- is worked out as an expression over variables in any other numeric field.

A variable is a number, a text, or a list of these. Its text is worked out too, where it is arithmetic over names that
are known; otherwise it stays a text. One like "n_yy * 72", whose names are not all known, is an error where a number is
wanted of it, told once and at its own place.
"""

import math
import re
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from beamslot.errors import BadParam, FlowgraphError
from beamslot.flowgraph.expressions import Expression, Number, parse
from beamslot.flowgraph.reading import Node, cite, read_text
from beamslot.runtime.graph import Unreadable, Written

MEASURED = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)? *[A-Za-z]+", re.IGNORECASE)
"""A number with a unit behind it."""


class SaidElsewhereError(Exception):
    """A value hangs on something that has been reported already."""


class Scope:
    """The variables of a flowgraph, worked out; earlier or later in the file makes no difference.

    problems: takes what turns out to be wrong with them
    values: number, text or list by name, without those that failed
    """

    def __init__(self, nodes: Mapping[str, Node], problems: list[FlowgraphError]) -> None:
        self.values: dict[str, Any] = {}
        self._nodes, self._problems = nodes, problems
        self._failed = set[str]()
        self._doubts: dict[str, BadParam] = {}
        for name in self._order():
            try:
                self.values[name] = self._work_out(name, nodes[name])
            except SaidElsewhereError:
                self._failed.add(name)

    def _order(self) -> list[str]:
        """Return the variables, each after those that it needs, without those that hang on a circle."""
        needs = {name: [n for n in _names(node) if n in self._nodes] for name, node in self._nodes.items()}
        order = _sorted(needs)
        self._failed = needs.keys() - order
        for ring in _rings({name: next(n for n in needs[name] if n in self._failed) for name in self._failed}):
            self._complain(ring[0], f"goes round in a circle: {' > '.join([*ring, ring[0]])}")
        return order

    def _complain(self, name: str, text: str, node: Node | None = None) -> None:
        self._problems.append(_bad(self._nodes[name] if node is None else node, f"variables.{name}", text))

    def _work_out(self, name: str, node: Node) -> Any:
        if node.items is not None:
            return self._work_out_list(name, node.items)
        if isinstance(node.value, str):
            return self._work_out_text(name, node)
        if isinstance(node.value, bool) or not isinstance(node.value, int | float) or math.isnan(node.value):
            self._complain(name, f"got {node}; wanted a number, a text, or a list of these", node)
            raise SaidElsewhereError
        return node.value

    def _work_out_list(self, name: str, items: list[Node]) -> list[Any]:
        """Return the values of a list; all that are wrong in it are reported."""
        found: list[Any] = []
        for item in items:
            with suppress(SaidElsewhereError):
                found.append(self._work_out(name, item))
        if len(found) < len(items):
            raise SaidElsewhereError
        return found

    def _work_out_text(self, name: str, node: Node) -> Any:
        text: str = node.value
        expression = _expression(text)
        if expression is None or (text not in self._nodes and expression.names == (text,)):
            return text
        self._need(expression)
        if text in self._nodes:
            return self.values[text]
        try:
            return expression.value(self.values)
        except BadParam as error:
            problem = _bad(node, f"variables.{name}", f"got {node}; {error}")
        if all(known in self._nodes for known in expression.names):
            self._problems.append(problem)
            raise SaidElsewhereError
        self._doubts[name] = problem
        return text

    def _need(self, expression: Expression) -> None:
        """Report the variables of an expression that turn out to be none."""
        for name in expression.names:
            if name in self._doubts:
                self._problems.append(self._doubts.pop(name))
                self._failed.add(name)
        if self._failed.intersection(expression.names):
            raise SaidElsewhereError

    def number(self, text: str) -> Number:
        """Return the value of an expression.

        raises BadParam saying what is wrong with it; SaidElsewhereError where it is one of its variables
        """
        expression = parse(text)
        self._need(expression)
        return expression.value(self.values)

    def named(self, text: str, kinds: "Kinds") -> Any:
        """Return the value of the variable that a text names, None where there is none that the field can take."""
        if text in self._failed:
            raise SaidElsewhereError
        value = self.values.get(text)
        return value if kinds.take(value) else None


def _sorted(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names, each after those that it needs, without those that hang on a circle."""
    sorter = TopologicalSorter(needs)
    order: list[str] = []
    with suppress(CycleError):
        sorter.prepare()
    while ready := sorter.get_ready():
        order += ready
        sorter.done(*ready)
    return order


def _rings(following: Mapping[str, str]) -> Iterator[list[str]]:
    """Return the circles in which one name leads to another, each from its first in the alphabet.

    >>> list(_rings({"a": "c", "c": "b", "b": "c", "d": "d"}))
    [['b', 'c'], ['d']]
    """
    seen: set[str] = set()
    for name in sorted(following):
        path: list[str] = []
        while name not in seen:
            seen.add(name)
            path.append(name)
            name = following[name]  # noqa: PLW2901
        if name in path:
            ring = path[path.index(name) :]
            first = ring.index(min(ring))
            yield ring[first:] + ring[:first]


def _bad(node: Node, path: str, text: str) -> BadParam:
    return BadParam(cite(node.place, path, text))


def _expression(text: str) -> Expression | None:
    try:
        return parse(text)
    except BadParam:
        return None


def _names(node: Node) -> Iterator[str]:
    for item in node.items or []:
        yield from _names(item)
    expression = _expression(node.value) if isinstance(node.value, str) else None
    yield from expression.names if expression else ()


@dataclass(frozen=True)
class Kinds:
    """What a field takes: numbers, whole ones only, texts, some texts (of a Literal), truth values, lists."""

    forms: tuple[Any, ...]
    number: bool
    whole: bool
    text: bool
    options: frozenset[str]
    truth: bool
    several: bool

    @classmethod
    def of(cls, forms: tuple[Any, ...]) -> "Kinds":
        """Return what the types of a field amount to.

        >>> Kinds.of(forms(int | Literal["auto"])).options
        frozenset({'auto'})
        """
        literals = [option for form in forms if get_origin(form) is Literal for option in get_args(form)]
        single = [form for form in forms if get_origin(form) is not Literal]
        truth = bool in single or any(isinstance(option, bool) for option in literals)
        numbers = [*(f for f in single if _is_number(f)), *(type(o) for o in literals if _is_number(type(o)))]
        several = [form for form in single if _is_collection(form)]
        rest = [f for f in single if f not in (bool, None, type(None)) and not _is_number(f) and f not in several]
        return cls(
            forms=forms,
            number=bool(numbers),
            whole=bool(numbers) and not any(issubclass(kind, float) for kind in numbers),
            text=bool(rest),
            options=frozenset(option for option in literals if isinstance(option, str)),
            truth=truth,
            several=bool(several) or Any in single,
        )

    def take(self, value: Any) -> bool:
        """Return whether the value of a variable can stand here."""
        if isinstance(value, str):
            return self.text or value in self.options or (bool(self.options) and not self.number)
        if isinstance(value, list):
            return self.several
        return value is not None and (self.number or Any in self.forms)


def forms(annotation: Any) -> tuple[Any, ...]:
    """Return the types that an annotation is a union of, without their metadata.

    >>> forms(int | None), forms(Annotated[float, "W"])
    ((<class 'int'>, <class 'NoneType'>), (<class 'float'>,))
    """
    if hasattr(annotation, "__value__"):
        return forms(annotation.__value__)
    if isinstance(annotation, NewType):
        return forms(annotation.__supertype__)
    origin = get_origin(annotation)
    if origin is Annotated:
        return forms(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(form for part in get_args(annotation) for form in forms(part))
    return (annotation,)


def _is_number(form: Any) -> bool:
    return isinstance(form, type) and issubclass(form, int | float) and form is not bool


def _is_collection(form: Any) -> bool:
    kind = get_origin(form) or form
    return isinstance(kind, type) and issubclass(kind, Collection) and not issubclass(kind, str | bytes | Mapping)


def _of_items(kinds: Kinds, index: int) -> tuple[Any, ...]:
    """Return the types that item `index` of a list can have."""
    found: list[Any] = []
    for form in kinds.forms:
        if not _is_collection(form):
            continue
        inner = get_args(form) or (Any,)
        fixed = get_origin(form) is tuple and inner[-1] is not Ellipsis
        found += forms(inner[index] if fixed and index < len(inner) else inner[0])
    return tuple(found) or (Any,)


def _of_entries(kinds: Kinds, key: str) -> tuple[Any, ...]:
    """Return the types that entry `key` of a mapping can have."""
    found: list[Any] = []
    for form in kinds.forms:
        origin = get_origin(form)
        if isinstance(form, type) and issubclass(form, BaseModel):
            found += forms(form.model_fields[key].annotation) if key in form.model_fields else ()
        elif isinstance(form, type) and is_dataclass(form):
            found += forms(get_type_hints(form, include_extras=True).get(key, Any))
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            found += forms(get_args(form)[1])
    return tuple(found) or (Any,)


@dataclass
class Values:
    """Written values, as a declaration takes them, with their places and expressions by path."""

    scope: Scope
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    places: dict[str, str] = field(default_factory=dict[str, str])
    expressions: dict[str, str] = field(default_factory=dict[str, str])

    def read(self, node: Node, types: tuple[Any, ...], path: str, unit: str = "") -> Any:
        """Return a value as a field of these types takes it; Unreadable in place of what it cannot be."""
        self.places[path] = node.place
        kinds = Kinds.of(types)
        if node.items is not None:
            return [self.read(item, _of_items(kinds, i), f"{path}.{i}", unit) for i, item in enumerate(node.items)]
        if node.entries is not None:
            return {k: self.read(item, _of_entries(kinds, k), f"{path}.{k}") for k, item in node.entries.items()}
        try:
            return self._scalar(node, kinds, path, unit)
        except BadParam as error:
            return Unreadable(f"got {node}; {error}")
        except SaidElsewhereError:
            return Unreadable()

    def _scalar(self, node: Node, kinds: Kinds, path: str, unit: str) -> Any:
        value = node.value
        strict = Any not in kinds.forms
        if isinstance(value, str):
            return self._text(value, kinds, path, unit)
        if isinstance(value, bool) and strict and kinds.number and not kinds.truth:
            raise BadParam("wanted a number")
        if type(value) in (int, float) and strict and kinds.truth and not kinds.number:
            raise BadParam("wanted true or false")
        if isinstance(value, float) and math.isnan(value):
            raise BadParam("wanted a number")
        return _whole(value) if kinds.whole and isinstance(value, float) else value

    def _text(self, text: str, kinds: Kinds, path: str, unit: str) -> Any:
        value = self.scope.named(text, kinds)
        if value is not None:
            self.expressions[path] = text
            return _whole(value) if kinds.whole and isinstance(value, float) else value
        if kinds.text or text in kinds.options or not (kinds.number or kinds.truth):
            return text
        if not kinds.number:
            raise BadParam("wanted true or false")
        try:
            number = self.scope.number(text)
        except BadParam as error:
            advice = "it stands without its unit, such as 1e-6" if MEASURED.fullmatch(text) else error
            raise BadParam(f"wanted {_wanted(kinds, unit)}; {advice}") from None
        self.expressions[path] = text
        return _whole(number) if kinds.whole else number


def _wanted(kinds: Kinds, unit: str) -> str:
    noun = "a whole number" if kinds.whole else "a number"
    options = f" or one of {', '.join(sorted(kinds.options))}" if kinds.options else ""
    return f"{noun}{f' [{unit}]' if unit else ''}{options}"


def value_of(text: str, place: str) -> Any:
    """Return the value of a text as YAML reads it, arithmetic worked out, where no declaration is at hand.

    raises FlowgraphError where it is no YAML
    """
    node, problems = read_text(text, place, lines=False)
    if problems:
        raise FlowgraphError(*problems)

    def plain(node: Node) -> Any:
        if node.items is not None:
            return [plain(item) for item in node.items]
        if node.entries is not None:
            return {key: plain(item) for key, item in node.entries.items()}
        expression = _expression(node.value) if isinstance(node.value, str) else None
        return expression.value({}) if expression and not expression.names else node.value

    return plain(node)


def _whole(number: Number) -> Number:
    """Return 3.0 as 3, and 3.5 as it is."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _unit(known: FieldInfo | None) -> str:
    extra = known.json_schema_extra if known else None
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def written(name: str, kind: type[BaseModel], nodes: Mapping[str, Node], scope: Scope, place: str) -> Written:
    """Return written values as what a class declares takes them.

    name, place: what messages cite
    """
    reader = Values(scope)
    for key, node in nodes.items():
        known = kind.model_fields.get(key)
        reader.values[key] = reader.read(node, forms(known.annotation) if known else (Any,), key, _unit(known))
    return Written(name, kind, reader.values, place, reader.places, reader.expressions)
