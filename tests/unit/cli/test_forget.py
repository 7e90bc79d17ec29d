"""`retarget forget`: deletes everything remembered of a visitor."""

from __future__ import annotations

import json

from retarget.policy import Policy
from retarget.retargeter import Retargeter
from tests.support.commands import JOURNEY, MONDAY, Run


def test_forget(run: Run, url: str) -> None:
    """It deletes under the given prefix only, and says whether there was anything; it needs no policy."""
    with Retargeter(Policy.from_text(JOURNEY), url, clock=lambda: MONDAY) as ads:
        ads.record("ben", "impression", "brand", at=MONDAY)
        known = ads.export("ben")
    other = run("forget", "ben", "--store", url, "--prefix", "other:")
    assert (other.code, other.out) == (0, "ben: nothing was remembered under other:\n")
    assert json.loads(run("export", "ben", "--store", url).out) == known
    assert run("forget", "ben", "--store", url).out == "ben: everything remembered was deleted under rt:\n"
    assert run("forget", "ben", "--store", url).out == "ben: nothing was remembered under rt:\n"
    assert json.loads(run("export", "ben", "--store", url).out)["timelines"] == {}


def test_the_id_is_printed_safely(run: Run, url: str) -> None:
    """Control characters are escaped."""
    assert run("forget", "who\x07", "--store", url).out == "who\\x07: nothing was remembered under rt:\n"
