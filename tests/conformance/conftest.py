"""The suites live in the package; their assertions are to explain themselves as those of other tests do."""

import pytest

pytest.register_assert_rewrite("fs3.sim.conformance")
