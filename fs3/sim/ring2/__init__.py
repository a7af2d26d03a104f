"""Simulation ring 2: the real services and clients on virtual time, with simulated networks, disks and stores.

`cluster_run.run_seed` runs one seed. From the command line: `python -m fs3.sim ring2`.
"""
