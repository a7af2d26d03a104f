"""The mount: what the kernel asks, answered by the native client. See docs/mount.md.

One file per group of operations: `names`, `attributes`, `xattrs`, `files`, `space`, `locks`, `directories`. `open_inode` is what
all handles of one file share: `open_state` what is known of it, `open_session` how it is written, `open_publish` when others see
that. `dirty_blocks` and `whole_file` are what was written and is not stored yet, `identity` decides for whom a request is asked,
and `mount` puts it together.
"""
