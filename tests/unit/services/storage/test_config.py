"""What an operator may set, and what is refused."""

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.services.storage import StorageConfig


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stop_grace_ms": -1}, "stop_grace_ms"),
        ({"resync_fills_max": 0}, "resync_fills_max"),
        ({"resync_fills_max": 10_000}, "resync_fills_max"),
        ({"resync_bytes_per_second": 5}, "resync_bytes_per_second"),
        ({"scrub_bytes_per_second": -1}, "scrub_bytes_per_second"),
        ({"scrub_interval_s": 1 << 40}, "scrub_interval_s"),
        ({"cache_share_max": 1.1}, "cache_share_max 1.1: 0.0 to 1.0"),
        ({"cache_share_max": float("nan")}, "cache_share_max nan"),
        ({"cache_share_min": -0.1}, "cache_share_min"),
        ({"cache_share_min": 0.6, "cache_share_max": 0.5}, "cache_share_min 0.6: 0.0 to 0.5"),
    ],
)
def test_settings_that_make_no_sense_are_named(options, said):
    with pytest.raises(FS3Error, match=said) as caught:
        StorageConfig(**options)
    assert caught.value.code is Code.CONFIG


def test_zero_means_no_limit_and_no_scrub():
    config = StorageConfig(resync_bytes_per_second=0, scrub_bytes_per_second=0, scrub_interval_s=0)
    assert config.enforce_lease
