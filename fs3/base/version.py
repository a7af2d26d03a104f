"""The version of fs3, for packages on every floor; the build reads it from here."""

from __future__ import annotations

__version__ = "0.1.0"
