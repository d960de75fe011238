"""`python -m beamslot`."""

from beamslot.cli import main

raise SystemExit(main())
