"""fs3: a parallel file system and KV cache store. Importing it loads no server and no grpc."""

__version__ = "0.1.0"
