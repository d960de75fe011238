"""The wheel holds the package and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_has_one_package_with_its_types_its_licence_and_the_prose_of_the_wire(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("beamslot-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    info = {name for name in top if name.endswith(".dist-info")}
    assert top - info == {"beamslot"}
    assert len(info) == 1
    (info_name,) = info
    nets = [f"beamslot/dsp/nets/checkpoints/{name}.safetensors" for name in ("vae_ula", "vae_upa")]
    for wanted in (*nets, "beamslot/py.typed", "beamslot/frame/WIRE.md", f"{info_name}/licenses/LICENSE"):
        assert wanted in names
    assert not [name for name in names if "test" in name.split("/")[-1] and not name.endswith("runtime/testing.py")]
