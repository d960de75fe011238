"""Every equation that the code implements can be found by its number."""

import re
from collections import defaultdict
from pathlib import Path

DSP = Path(__file__).parents[2] / "blocks" / "beamslot" / "dsp"
TAG = re.compile(r"source: ((?:[^\n]|\n(?!\s*\n|\s*\"\"\"))+)")
EQUATIONS = re.compile(r"eqs?\. ((?:\(\d+\)(?:[-, and]*)?)+)")


def tags() -> dict[int, set[str]]:
    """Return the files that cite each equation of paper 004."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in DSP.glob("*.py"):
        for tag in TAG.findall(path.read_text()):
            if "paper 004" not in tag:
                continue
            for run in EQUATIONS.findall(tag):
                for first, last in re.findall(r"\((\d+)\)(?:-\((\d+)\))?", run):
                    for number in range(int(first), int(last or first) + 1):
                        found[number].add(path.name)
    return found


def test_the_signal_model_the_beams_and_the_estimator_of_paper_004_can_be_found_by_equation() -> None:
    found = tags()
    wanted = {1, 2, 3, 5, 6, 7, 8, *range(22, 32), 33, 34, 35}
    assert wanted - set(found) == set()


def test_the_beams_and_the_combiner_stand_where_the_equations_say() -> None:
    found = tags()
    assert "combine.py" in found[1] & found[2]
    assert "beams.py" in found[8]
    assert "geometry.py" in found[3]
