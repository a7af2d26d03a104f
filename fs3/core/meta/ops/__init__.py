"""The verbs of the namespace, one file each: `async def verb(txn, ctx, request)`. MetaError says why one is refused."""
