"""The first rows of a namespace."""

from __future__ import annotations

import msgspec

from fs3.base.ids import ROOT_INODE
from fs3.base.status import Code
from fs3.core.meta import keys, rows
from fs3.core.meta.context import OpContext
from fs3.core.meta.entries import empty_root
from fs3.core.meta.errors import MetaError
from fs3.core.txn import Txn
from fs3.model.inode import Inode

FORMAT = 3
"""2: the content of an inode may have another id (`Inode.content`), and be a row beside it (`Inode.inline`). 3: there are special
files. Rows of older formats are read as they are."""
_decode_store = msgspec.msgpack.Decoder(rows.StoreIdent).decode


async def claim_store(txn: Txn, cluster: bytes) -> None:
    """The store is for the namespace of this cluster (b"": not known yet). Raises MetaError for what must not be touched:
    UNSUPPORTED for rows of another program or of newer software, WRONG_CLUSTER."""
    row = await txn.get(keys.STORE)
    if row is not None:
        try:
            store = _decode_store(row)
        except msgspec.MsgspecError as error:
            rows.raise_malformed(keys.STORE, error)
        if store.format > FORMAT:
            raise MetaError(Code.UNSUPPORTED, f"the store has rows of format {store.format}, this software knows {FORMAT}")
        if store.cluster and cluster and store.cluster != cluster:
            what = f"the store belongs to cluster {store.cluster.hex()}"
            raise MetaError(Code.WRONG_CLUSTER, f"{what}, this service to {cluster.hex()}")
        cluster = cluster or store.cluster
        if (store.format, store.cluster) == (FORMAT, cluster):
            return
    elif await txn.get(keys.COUNTERS) is None and (found := await txn.scan(b"", b"\xff", 1)):
        raise MetaError(
            Code.UNSUPPORTED, f"the store holds something else than a namespace, for instance the row {found[0][0]!r}"
        )
    txn.put(keys.STORE, rows.encode(rows.StoreIdent(FORMAT, cluster)))


async def ensure_root(txn: Txn, ctx: OpContext, *, mode: int = 0o755) -> Inode:
    """The root directory; created, with the counters, for the user of `ctx` when the store has none yet."""
    root = await rows.find_inode(txn, ROOT_INODE)
    if root is not None:
        return root
    root = empty_root(ctx, mode)
    rows.put_inode(txn, root)
    rows.put_counters(txn, rows.NamespaceCounters(ROOT_INODE + 1, 1, 0))
    return root
