import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import beamslot
import beamslot.errors

HEAVY = (
    "numpy",
    "pydantic",
    "ruamel",
    "rich",
    "zmq",
    "msgpack",
    "scipy",
    "torch",
    "sionna",
    "matplotlib",
    "bokeh",
    "onnxruntime",
)


def loaded_after(code):
    listing = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-P", "-c", listing], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name for name in done.stdout.splitlines()[-1].split() if name in HEAVY}


def test_import_beamslot_imports_nothing_heavy():
    assert loaded_after("import beamslot") == set()


@pytest.mark.parametrize(
    "verb",
    ["", "'run', ", "'sweep', ", "'blocks', ", "'echo', ", "'logs', ", "'keys', ", "'doctor', ", "'view', ", "'ps', "],
)
def test_help_imports_nothing_heavy(verb):
    code = f"import beamslot.cli\ntry: beamslot.cli.main([{verb}'--help'])\nexcept SystemExit: pass"
    assert loaded_after(code) == set()


def test_run_and_its_result_import_no_numerics():
    assert loaded_after("from beamslot import run, RunResult") == set()


def test_every_exported_name_is_there_and_the_list_is_sorted():
    assert list(beamslot.__all__) == sorted(beamslot.__all__)
    for name in beamslot.__all__:
        assert getattr(beamslot, name) is not None
    assert set(beamslot.__all__) <= set(dir(beamslot))


def test_every_error_of_the_tree_is_exported():
    tree = {name for name, value in vars(beamslot.errors).items() if isinstance(value, type)}
    assert tree - {"Any"} <= set(beamslot.__all__)


def test_exports_are_the_objects_of_their_modules():
    from beamslot.frame import StreamInfo
    from beamslot.runtime import Block

    assert beamslot.Block is Block
    assert beamslot.StreamInfo is StreamInfo


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'beamslot' has no attribute 'blok'"):
        _ = beamslot.blok


def test_the_version_is_that_of_the_installed_package():
    assert beamslot.__version__ == importlib.metadata.version("beamslot")


def test_the_command_line_gives_each_process_one_thread_unless_told_otherwise():
    show = "print(*map(os.getenv, beamslot.cli.THREADS))"
    code = f"import os, beamslot.cli\nbeamslot.cli.main(['graph', 'none.yml'])\n{show}"
    bare = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    for given, threads in (({}, ["1", "1", "1"]), ({"MKL_NUM_THREADS": "3"}, ["1", "1", "3"])):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**bare, **given}
        )
        assert done.stdout.split() == threads


def test_the_package_declares_that_it_is_typed():
    assert (Path(beamslot.__file__).parent / "py.typed").exists()
