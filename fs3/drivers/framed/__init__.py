"""The framed wire on any stream socket; `fs3.drivers.tcp` and `fs3.drivers.local` say which sockets."""
