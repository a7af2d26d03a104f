"""The simulation, `python -m fs3.sim`: protocol machines (ring 1) and whole services (ring 2) on virtual time; beside it, the
conformance suites that every driver passes. Tests, benches and drills import it; services and clients know nothing of it.
"""
