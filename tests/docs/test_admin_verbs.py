"""docs/admin.md maps every verb of 3FS's admin tool, once; what it maps them to exists (`test_commands`)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "admin.md"
VERBS = set(
    """
    help user-add user-remove user-set user-set-token user-stat user-list user-switch current-user decode-user-token
    drop-user-cache init-cluster list-nodes register-node unregister-node set-node-tags list-clients
    refresh-routing-info set-config get-config verify-config render-config hot-update-config
    get-last-config-update-record upload-chains upload-chain-table list-chain-tables list-chains list-targets
    dump-chain-table dump-chains create-target create-targets offline-target remove-target update-chain rotate-lastsrv
    set-preferred-target-order rotate-as-preferred-order shutdown-all-chains stat ls cd mkdir ln rm mv getrealpath
    create create-range remove-range open-range set-perm set-layout recursive-chown read-file write-file checksum
    fill-zero bench read-bench query-chunk parse-target-meta dump-session session-prune gc-list scan-tree dump-inodes
    dump-dentries dump-chunkmeta find-orphaned-chunks remove-chunks remote-call
    """.split()  # noqa: SIM905 - one word per line would be four pages
)


def test_every_verb_is_mapped_once() -> None:
    text = DOCUMENT.read_text().split("## All commands, for those who know 3FS", 1)[1]
    first_columns = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    mapped = Counter(verb for column in first_columns for verb in re.findall(r"`([a-z-]+)`", column))
    assert set(mapped) == VERBS
    assert not [verb for verb, count in mapped.items() if count > 1]
