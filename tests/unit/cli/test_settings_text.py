"""Settings as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.cli.settings_text import load_changes, parse_changes


def test_values_are_what_the_setting_takes() -> None:
    assert parse_changes(
        [
            "storage.read_only=true",
            "storage.scrub_bytes_per_second=32MiB",
            "storage.cache_share_max=0.5",
            "storage.scrub_interval_s=7d",
            "meta.session_silence_ms=2m",
            "meta.inline_bytes = 16_384",
            "meta.stripe=default",
        ]
    ) == {
        "storage.read_only": True,
        "storage.scrub_bytes_per_second": 32 << 20,
        "storage.cache_share_max": 0.5,
        "storage.scrub_interval_s": 7 * 24 * 3600,
        "meta.session_silence_ms": 120_000,
        "meta.inline_bytes": 16_384,
        "meta.stripe": None,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("meta.stripe", "'meta.stripe' is not KEY=VALUE"),
        ("meta.stripe=", "'meta.stripe=' is not KEY=VALUE"),
        ("meta.strip=4", "there is no setting 'meta.strip'; did you mean meta.stripe?"),
        ("meta.stripe=many", "meta.stripe: "),
        ("meta.stripe=5000", "meta.stripe: 5000 is not between 1 and 1024"),
        ("storage.read_only=yes", "storage.read_only: 'yes' is not true or false"),
        ("storage.cache_share_max=much", "storage.cache_share_max: could not convert"),
        ("meta.space_age_ms=soon", "meta.space_age_ms: "),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(FS3Error) as wrong:
        parse_changes([text])
    assert wrong.value.code is Code.CONFIG
    assert words in str(wrong.value)


def test_a_key_that_is_given_twice() -> None:
    with pytest.raises(FS3Error, match=r"meta\.stripe is given twice"):
        parse_changes(["meta.stripe=4", "meta.stripe=5"])


def test_a_file_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[storage]\nread_only = true\n[meta]\nstripe = 4\n")
    assert load_changes(file) == {"storage.read_only": True, "meta.stripe": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[storage]\nread_on", "is not TOML, or not all of it"),
        ("[storage]\nread_onyl = true\n", "there is no setting 'storage.read_onyl'"),
        ("[meta]\nstripe = 0\n", "meta.stripe: 0 is not between"),
        ("[meta]\nstripe = 'x'\n", "meta.stripe"),
        ("stripe = 1\n", "stripe is no table"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(FS3Error) as wrong:
        load_changes(file)
    assert wrong.value.code is Code.CONFIG
    assert words in str(wrong.value)
    assert str(file) in str(wrong.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FS3Error, match="cannot read the settings"):
        load_changes(tmp_path / "none.toml")
