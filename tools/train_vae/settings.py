"""Configuration files: YAML, `base:` names another file that it changes, `key=value` changes a single value."""

import difflib
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from beamslot.errors import BadParam, StorageError

CONFIGS = Path(__file__).parent / "configs"
"""Those that come with the tool; a name without a folder that is not found is looked for here."""

_DEEPEST = 8

Model = TypeVar("Model", bound=BaseModel)


def read(name: str | Path, changes: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a file says, on top of what it is based on, with changes such as `encoder.width=8`.

    raises StorageError where a file cannot be read; BadParam where it is no mapping, or a change is no change
    """
    settings = _based(_place(Path(name)), _DEEPEST)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise BadParam(f"--set {change}: wanted KEY=VALUE, such as encoder.width=8")
        *path, last = key.split(".")
        inner = settings
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise BadParam(f"--set {change}: {part} is {inner!r}, wanted a mapping")
        inner[last] = _yaml(text, f"--set {change}")
    return settings


def checked(model: type[Model], settings: Mapping[str, Any], where: str) -> Model:
    """Return settings as a model; raises BadParam with a line for each problem."""
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        known = list(model.model_fields)
        raise BadParam(*(_told(problem, known, where) for problem in error.errors())) from None


def _told(problem: Any, known: list[str], where: str) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    near = difflib.get_close_matches(name, known, 1) if problem["type"] == "extra_forbidden" else []
    return f"{where}: {name} is {problem['input']!r}: {problem['msg']}" + (f"; {near[0]}?" if near else "")


def _place(path: Path) -> Path:
    return CONFIGS / path if not path.exists() and path.name == str(path) else path


def _based(path: Path, depth: int) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    found = _yaml(text, str(path))
    if not isinstance(found, dict):
        raise BadParam(f"{path} is {type(found).__name__}, wanted a mapping")
    base = found.pop("base", None)
    if base is None:
        return found
    if not depth:
        raise BadParam(f"{path}: base {base}: files are based on each other in a circle")
    return _merged(_based(path.parent / str(base), depth - 1), found)


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in above.items():
        inner = below.get(key)
        below[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return below


def _yaml(text: str, where: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(StringIO(text))
    except YAMLError as error:
        raise BadParam(f"{where}: {error}") from None
