"""costs.py: the time of a call from constants, and constants measured elsewhere."""

from __future__ import annotations

import pytest

from retarget.operate.costs import Costs

ROUND = Costs(read_us=10, read_timeline_us=1, write_us=20, write_entry_us=2, write_guard_us=3, write_timeline_us=0.5)


def test_times_are_sums_of_their_parts() -> None:
    """A read grows with timelines; a write with entries, guards and timelines."""
    assert ROUND.read(0) == 10
    assert ROUND.read(5) == 15
    assert ROUND.write(0, 0, 0) == 20
    assert ROUND.write(2, 3, 4) == 20 + 4 + 9 + 2


def test_constants_measured_elsewhere_replace_these_by_name() -> None:
    """The others keep their defaults."""
    assert Costs.of({"read_us": 7, "fragmentation": 1.3}) == Costs(read_us=7.0, fragmentation=1.3)
    assert Costs.of({}) == Costs()


@pytest.mark.parametrize(("measured", "error"), [({"speed": 1}, TypeError), ({"read_us": "fast"}, ValueError)])
def test_what_is_not_a_constant_is_refused(measured: dict[str, float], error: type[Exception]) -> None:
    """An unknown name, or a value that is not a number."""
    with pytest.raises(error):
        Costs.of(measured)
