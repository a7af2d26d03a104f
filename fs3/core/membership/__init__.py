"""Who is in the cluster and who may serve: placement, chain transitions, leases, and the management machine."""
