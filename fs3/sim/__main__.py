"""Runs the simulation from the command line."""

import sys

from fs3.sim.command import main

sys.exit(main())
