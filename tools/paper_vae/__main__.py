"""Run as `python tools/paper_vae`."""

import os
import sys
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before numpy is loaded: processes share the work, threads would fight
# In place of this folder, whose module names are its own affair.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":
    from paper_vae.command import main

    sys.exit(main())
