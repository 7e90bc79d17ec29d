"""`retarget export`: what is remembered of a visitor, as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from retarget.policy import Policy
from retarget.retargeter import Retargeter
from tests.support.commands import JOURNEY, MONDAY, Run


def test_export_and_forget(run: Run, url: str, journey: Path) -> None:
    """`export` prints what is remembered as JSON, `forget` deletes it and says so; neither asks for a policy."""
    with Retargeter(Policy.from_text(JOURNEY), url, clock=lambda: MONDAY) as ads:
        ads.record("ben", "impression", "brand", at=MONDAY)
        known = ads.export("ben")
    exported = run("export", "ben", "--store", url)
    assert (exported.code, json.loads(exported.out)) == (0, known)
    other = run("forget", "ben", "--store", url, "--prefix", "other:")
    assert (other.code, other.out) == (0, "ben: nothing was remembered under other:\n")
    assert json.loads(run("export", "ben", "--store", url).out) == known
    assert run("forget", "ben", "--store", url).out == "ben: everything remembered was deleted under rt:\n"
    assert run("forget", "ben", "--store", url).out == "ben: nothing was remembered under rt:\n"
    assert json.loads(run("export", "ben", "--store", url).out)["timelines"] == {}
