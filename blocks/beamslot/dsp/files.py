"""Small designs kept as JSON: written whole, and read with every problem told."""

import reprlib
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError

from beamslot.errors import BadParam, StorageError, VersionError

Kept = TypeVar("Kept", bound=BaseModel)


class Head(BaseModel):
    """What every version of a format begins with."""

    format: str
    version: Annotated[int, Field(strict=True)]


def save(path: Path, kept: BaseModel) -> None:
    """Write a model as JSON; a file in place is replaced, once the new one is whole.

    raises StorageError with the path and why it cannot be written
    """
    draft = path.with_name(f"{path.name}.tmp")
    try:
        draft.write_text(kept.model_dump_json(indent=1) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {(error.strerror or str(error)).lower()}") from None


def load(path: Path, kind: type[Kept], format_name: str, version: int, called: str) -> Kept:
    """Return the model of a file.

    format_name, version: what its fields of these names must say    called: what such a file is, for messages
    raises StorageError where it cannot be read, VersionError for another version of the format, BadParam for any
    other content; each with the path, what came and what was wanted
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    try:
        head = Head.model_validate_json(text)
    except ValidationError as error:
        raise BadParam(f"{path}: is no {called}: {problems(error)}") from None
    if head.format != format_name:
        raise BadParam(f"{path}: is no {called}: format: got {head.format!r}; wanted {format_name!r}")
    if head.version != version:
        raise VersionError(f"{path}: has version {head.version} of the format; wanted {version}")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise BadParam(f"{path}: {problems(error)}") from None


def problems(error: ValidationError) -> str:
    """Return every problem as where, what was wanted and what came."""
    told: list[str] = []
    for problem in error.errors(include_url=False):
        where = ".".join(map(str, problem["loc"]))
        own = problem["type"] == "value_error" and not isinstance(problem["input"], list | tuple)
        silent = own or problem["type"] in {"missing", "json_invalid"}
        came = "" if silent else f"; got {reprlib.repr(problem['input'])}"
        told.append(f"{where}: {problem['msg']}{came}".removeprefix(": ").replace("Value error, ", ""))
    return "; ".join(told)
