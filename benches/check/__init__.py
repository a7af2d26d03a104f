"""A regression gate: CPU time per operation of the hot paths, beside what was recorded on the same kind of machine.

CPU time (of the client and of all services together, from the scheduler's own account) is steadier than elapsed time on a machine
that others use as well, and it is what a change of the code changes.
"""
