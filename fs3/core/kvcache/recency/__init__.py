"""Which page of a namespace goes next: what is remembered of every page a target has, and the choice of a victim."""
