"""Several files that appear together."""

from __future__ import annotations

import logging
from typing import Any

from fsspec.transaction import Transaction

log = logging.getLogger("fs3.client")


class FS3Transaction(Transaction):  # type: ignore[misc]
    """fsspec's, which before 2026.9 does not end when a commit fails: the instance then never shows what it writes later."""

    fs: Any

    def complete(self, commit: bool = True) -> None:
        """Publish all files, or drop them. The first failure is raised, after what is left has been dropped."""
        try:
            while self.files:
                file = self.files.popleft()
                if commit:
                    file.commit()
                else:
                    self._discard(file)
        finally:
            while self.files:
                self._discard(self.files.popleft())
            self.fs._intrans = False
            self.fs._transaction = None
            self.fs = None

    @staticmethod
    def _discard(file: object) -> None:
        try:
            file.discard()  # type: ignore[attr-defined]
        except OSError as failure:
            log.info("a file of a transaction was left to its lease: %s", failure)
