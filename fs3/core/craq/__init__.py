"""Chain replication with apportioned queries (CRAQ), as a pure machine.

Terrace and Freedman, "Object Storage on CRAQ", USENIX ATC 2009; van Renesse and Schneider, "Chain Replication", OSDI 2004.
"""
