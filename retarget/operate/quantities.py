"""Numbers, sizes and shares as people write them, and the check of a value's range.

Rules:
- Anything else raises InputError, with an example of what would be right.
"""

from __future__ import annotations

import re

from retarget.errors import InputError

_NUMBER = re.compile(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?)\s*([A-Za-z%]*)\s*")
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "bn": 1e9, "t": 1e12}


def parse_number(text: str) -> float:
    """A number such as 5e8, 500M, 400k or 1,000. Raises InputError."""
    return _parse(text, _UNITS, "a number such as 5e8, 500M or 400k")


def parse_bytes(text: str) -> float:
    """A size such as 64GB, 64GiB or 512MB. Raises InputError."""
    units = {f"{letter}{tail}": (1e3 if tail != "ib" else 1_024.0) ** power
             for power, letter in enumerate("kmgt", 1) for tail in ("", "b", "ib")}  # fmt: skip
    return _parse(text, {"": 1.0, "b": 1.0, **units}, "a size such as 64GB or 64GiB")


def parse_share(text: str) -> float:
    """A share such as 0.05 or 5%. Raises InputError."""
    return _parse(text, {"": 1.0, "%": 0.01}, "a share such as 0.05 or 5%")


def _parse(text: str, units: dict[str, float], wanted: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise InputError(f"{text!r:.60} is not {wanted}")
    return float(re.sub("[_,]", "", match[1])) * units[match[2].lower()]


def require(good: bool, name: str, value: object, right: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Raise InputError with the name, the value and what would be right, unless `good`."""
    if not good:
        raise InputError(f"{name}={value!r:.40}: must be {right}")
