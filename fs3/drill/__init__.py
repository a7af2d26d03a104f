"""Drills: real processes of a local cluster are broken on purpose, under a load that knows what it may be answered.

A load (`load`, in a process of its own: `load_process`) writes down what it was told in a journal (`journal`); afterwards every
byte is held against it (`verify`). `proxy` breaks the network between processes, `roles` says which process is head, middle and
tail of a chain. `intruder` tries everything that a stranger, or another user, must not get. `soak` is hours of load and harm;
`failover_demo` is half a minute of it, to watch. Process tests and benches use the same parts.
"""
