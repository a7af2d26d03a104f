"""The verbs of the namespace, one file each: `async def verb(txn, ctx, ...)`. MetaError says why one is refused."""
