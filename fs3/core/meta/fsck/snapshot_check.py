"""Is a namespace whole, at one moment? For tests, and for a program that alone holds the store.

`fs3.core.meta.fsck.namespace_check` is the check of a namespace in use; this is the same over a single transaction.
"""

from __future__ import annotations

from fs3.base.limits import check_rows_per_page
from fs3.core.meta.fsck.namespace_check import NamespaceCheck, TxnSource
from fs3.core.meta.fsck.problems import describe
from fs3.core.txn import ReadTxn


async def check_namespace(txn: ReadTxn) -> list[str]:
    """One sentence per thing that is wrong; empty when all is well.

    - every row is readable, and says what its key says
    - an entry's inode exists and has the type the entry says; entries are in directories that exist
    - a file or symlink has as many names as `nlink` says; without a name it is open for writing or queued once, not both
    - a directory has one name and the right `parent`, `length` and `nlink`, or is detached and queued as a tree
    - every directory hangs below the root or below a detached tree; no loops
    - an inline file has its bytes in a row, as many as its length says, and there is no such row of anything else
    - an inode says how many bytes its extended attributes have, which are no one else's; its mode says the same as its ACL
    - the counters are right, and all ids are below the next one
    """
    survey = NamespaceCheck(TxnSource(txn, check_rows_per_page))
    await survey.run()
    assert not survey.unsettled, "something changed within a transaction"
    return [describe(problem) for problem in survey.problems]
