"""The catalogue: every id is a block, and blocks of one's own come in by file, by class and by entry point."""

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from beamslot import catalogue
from beamslot.catalogue import CATALOGUE, collect, find, ids, load_blocks, snake_case
from beamslot.errors import FlowgraphError, UnknownBlock
from beamslot.runtime.block import Block

OWN = """\
from dataclasses import dataclass
from beamslot.runtime import Block, In, Out


class MyEstimator(Block):
    rf = In()
    estimate = Out()
    order: "int" = 3


class _Hidden(Block):
    pass


Alias = MyEstimator


@dataclass
class NoBlock:
    x: int = 3
"""


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def refusal(file: Path) -> str:
    with pytest.raises(FlowgraphError) as caught:
        load_blocks(file)
    return str(caught.value).replace(f"{file.parent}/", "")


@pytest.mark.parametrize("block_id", sorted(CATALOGUE))
def test_every_id_of_the_table_is_a_documented_block(block_id):
    kind = find(block_id)
    assert issubclass(kind, Block)
    assert kind.__doc__
    assert kind.inputs or kind.outputs
    assert kind.__module__.rpartition(".")[2] == CATALOGUE[block_id].partition(":")[0].rpartition(".")[2]


def test_the_table_is_sorted():
    assert list(CATALOGUE) == sorted(CATALOGUE)


BASES = r"^class \w+\((Block|Combiner|Fault|GnuradioBlock|Sounded|\w+Estimator)\):"


def test_every_block_file_stands_in_the_table():
    package = Path(catalogue.__file__).parent
    files = {
        f"beamslot.{family}.{file.stem}"
        for family in ("sources", "beamformers", "estimators", "faults", "sinks")
        for file in (package / family).glob("*.py")
        if re.search(BASES, file.read_text(), re.M)
    } - {"beamslot.estimators.rf_estimator", "beamslot.faults.fault"}  # bases of others
    assert files == {target.partition(":")[0] for target in CATALOGUE.values()}


def test_looking_at_the_catalogue_imports_no_block():
    code = "import sys, beamslot.catalogue as c; c.ids(); print([m for m in sys.modules if 'beamslot.sinks' in m])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_an_unknown_id_is_answered_with_the_nearest():
    with pytest.raises(UnknownBlock) as caught:
        find("nmse_sunk")
    assert str(caught.value) == "no block has the id 'nmse_sunk'; did you mean 'nmse_sink'?"


def test_a_block_whose_package_is_missing_says_which(monkeypatch):
    monkeypatch.setitem(CATALOGUE, "gone", "no_such_package.blocks:Gone")
    with pytest.raises(FlowgraphError) as caught:
        find("gone")
    assert str(caught.value) == "block 'gone' needs the package 'no_such_package', which is not installed"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("beamslot.errors:Nothing", "cannot be imported from beamslot.errors:Nothing: AttributeError"),
        ("beamslot.errors:FlowgraphError", "beamslot.errors:FlowgraphError is no Block"),
    ],
)
def test_a_wrong_entry_is_said(monkeypatch, target, problem):
    monkeypatch.setitem(CATALOGUE, "wrong", target)
    with pytest.raises(FlowgraphError, match=problem):
        find("wrong")


# Blocks of one's own


def test_a_file_gives_its_blocks_by_id(tmp_path):
    found = load_blocks(written(tmp_path, OWN))
    assert list(found) == ["my_estimator"]
    assert found["my_estimator"](order=4).order == 4
    assert list(found["my_estimator"].inputs) == ["rf"]
    assert find("my_estimator", found) is found["my_estimator"]
    assert "my_estimator" in ids(found)
    assert "my_estimator" not in ids()


def test_a_file_is_read_anew_and_leaves_nothing_beside_it(tmp_path):
    file = written(tmp_path, OWN)
    load_blocks(file)
    written(tmp_path, OWN.replace("= 3", "= 5"))
    assert load_blocks(str(file))["my_estimator"]().order == 5
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_imported_blocks_are_not_the_files_own(tmp_path):
    text = "from beamslot.sinks.null_sink import NullSink\nclass Mine(NullSink):\n    pass\n"
    assert list(load_blocks(written(tmp_path, text))) == ["mine"]


def test_an_own_block_stands_before_one_of_the_table(tmp_path):
    file = written(tmp_path, "from beamslot.runtime import Block\nclass Omp(Block):\n    pass\n")
    own = load_blocks(file)
    assert find("omp", own) is own["omp"]
    assert find("omp") is not own["omp"]


@pytest.mark.parametrize(
    ("name", "block_id"),
    [
        ("Omp", "omp"),
        ("OmpEstimator", "omp_estimator"),
        ("UPASource", "upa_source"),
        ("GwScVbi2", "gw_sc_vbi2"),
        ("Ls2Fit", "ls2_fit"),
        ("MyDFT", "my_dft"),
    ],
)
def test_an_id_is_the_class_name_in_snake_case(name, block_id):
    assert snake_case(name) == block_id


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1\nclass Mine(:\n", "mine.py:2: not Python: invalid syntax"),
        (
            "\n\nimport no_such_package\n",
            "mine.py:3: does not run: ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("def f():\n    return 1 / 0\n\nf()\n", "mine.py:2: does not run: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", "mine.py:2: does not run: SystemExit: 3"),
        ("import json\n\njson.loads('{')\n", "mine.py:3: does not run: JSONDecodeError: "),
        ("x = 1\n", "mine.py: defines no block; wanted a class derived from beamslot.Block"),
        (
            "from beamslot.runtime import Block\nclass MyA(Block): pass\nclass My_A(Block): pass\n",
            "mine.py: MyA and My_A have one id, 'my_a'",
        ),
        (
            "from beamslot.runtime import Block\n\n\nclass Mine(Block):\n    def process(self, rf): ...\n",
            "mine.py:4: does not run: PortMismatch: Mine.process wants rf; it can have slots, source",
        ),
        ("x = '\xff'\n".encode("latin-1").decode("latin-1"), "mine.py: defines no block"),
    ],
)
def test_a_file_that_does_not_run_is_cited_with_its_line(tmp_path, text, problem):
    assert refusal(written(tmp_path, text)).startswith(problem)
    assert not [name for name in sys.modules if name.startswith("beamslot_blocks_mine") and str(tmp_path) in name]


def test_a_file_that_is_not_there_cannot_be_read(tmp_path):
    assert refusal(tmp_path / "mine.py") == "mine.py: cannot be read: no such file or directory"
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: is a directory".replace(f"{tmp_path.parent}/", "")


def test_a_module_that_fails_leaves_no_trace(tmp_path):
    before = set(sys.modules)
    refusal(written(tmp_path, "1 / 0\n", "trace.py"))
    assert {name for name in set(sys.modules) - before if name.startswith("beamslot_blocks")} == set()


def test_files_are_collected_and_all_that_fail_are_said(tmp_path):
    good = written(tmp_path, OWN)
    assert list(collect([good])) == ["my_estimator"]
    assert collect({"mine": Block}) == {"mine": Block}
    assert collect([]) == {}
    with pytest.raises(FlowgraphError) as caught:
        collect([written(tmp_path, "1 / 0", "one.py"), good, written(tmp_path, "x", "two.py"), good])
    assert str(caught.value).replace(f"{tmp_path}/", "").split("\n") == [
        "one.py:1: does not run: ZeroDivisionError: division by zero",
        "two.py:1: does not run: NameError: name 'x' is not defined",
        "mine.py: block id 'my_estimator' is also in another file",
    ]


def test_installed_packages_add_blocks_but_hide_none(monkeypatch):
    points = {
        name: EntryPoint(name, "beamslot.sinks.null_sink:NullSink", catalogue.GROUP) for name in ("their_sink", "omp")
    }
    monkeypatch.setattr(catalogue, "_installed", lambda: points)
    assert find("their_sink") is find("null_sink")
    assert find("omp") is not find("null_sink")
    assert "their_sink" in ids()


def test_entry_points_of_the_group_are_read():
    catalogue._installed.cache_clear()
    assert catalogue.GROUP == "beamslot.blocks"
    assert all(point.group == catalogue.GROUP for point in catalogue._installed().values())
