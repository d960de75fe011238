"""What the command lines of the reproductions share: names with commas, least values, sizes."""

import argparse
import difflib
import re
from collections.abc import Collection, Iterable, Mapping


def names(only: str | None, known: Collection[str]) -> list[str]:
    """Return the names that --only asks for; all that there are without it."""
    return [name.strip() for name in only.split(",")] if only else list(known)


def unknown(asked: Iterable[str], known: Collection[str]) -> Iterable[str]:
    """Yield what is wrong with names, each with the nearest that there is."""
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"wanted some of {', '.join(known)}"
            yield f"--only: there is no {name!r}; {hint}"


def too_small(arguments: argparse.Namespace, least: Mapping[str, int]) -> Iterable[str]:
    """Yield which options are below the least that they can be."""
    for name, bound in least.items():
        value = getattr(arguments, name)
        if value is not None and value < bound:
            yield f"--{name.replace('_', '-')} is {value}; wanted at least {bound}"


def three(text: str) -> tuple[int, int, int] | None:
    """Return the numbers of a text such as 64x72x12, None for another."""
    if not re.fullmatch(r"\d+x\d+x\d+", text):
        return None
    first, second, third = (int(part) for part in text.split("x"))
    return first, second, third
