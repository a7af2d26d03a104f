"""The framed wire on any stream socket; `fs3.drivers.framed.tcp` and `fs3.drivers.framed.local` say which sockets."""
