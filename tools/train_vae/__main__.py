"""Run as `python tools/train_vae CONFIG.yml`."""

import os
import sys
from pathlib import Path

if "LOCAL_RANK" in os.environ:  # torchrun: processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# In place of this folder, whose module names are its own affair.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":
    from train_vae.command import main

    sys.exit(main())
