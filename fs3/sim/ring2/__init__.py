"""Simulation ring 2: the real services and clients on virtual time, with simulated networks, disks and stores.

`run_seed` runs one seed. From the command line: `python -m fs3.sim.ring2`.
"""

from fs3.sim.ring2.cluster_run import ClusterOutcome, run_seed

__all__ = ["ClusterOutcome", "run_seed"]
