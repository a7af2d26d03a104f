"""Runs simulation ring 2 from the command line."""

import sys

from fs3.sim.ring2.run import main

sys.exit(main())
