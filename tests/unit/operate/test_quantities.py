"""quantities.py: numbers, sizes and shares as people write them."""

from __future__ import annotations

import pytest

from retarget.errors import InputError
from retarget.operate.quantities import parse_bytes, parse_number, parse_share


@pytest.mark.parametrize(
    ("text", "number"), [("5e8", 5e8), ("400k", 4e5), ("500M", 5e8), ("1,000", 1e3), ("2.5b", 2.5e9), ("10_000", 1e4)]
)
def test_numbers_as_people_write_them(text: str, number: float) -> None:
    """With an exponent, a letter, or separators."""
    assert parse_number(text) == number


def test_sizes_and_shares() -> None:
    """Sizes in powers of ten and of two; shares in percent."""
    assert (parse_bytes("64GB"), parse_bytes("1 GiB"), parse_bytes("512m")) == (64e9, 2**30, 512e6)
    assert (parse_share("5%"), parse_share("0.05")) == (0.05, 0.05)


@pytest.mark.parametrize("text", ["", "many", "-5", "nan", "inf", "1e400", "5x", "0x10", "5%"])
def test_anything_else_is_refused(text: str) -> None:
    """The message shows a valid number."""
    with pytest.raises(InputError, match="such as"):
        parse_number(text)
