"""The kernel's FUSE protocol: requests from /dev/fuse to the methods of a file system, its answers back, and mounting itself.

No library is between: `protocol` has the numbers and structures, `codec` makes records of them, `dispatch` says which request is
which method of `operations.Operations`, `session` reads and answers them on an event loop, `mount` makes and ends mounts.
"""
