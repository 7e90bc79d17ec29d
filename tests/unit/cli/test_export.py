"""`retarget export`: everything remembered of a visitor, as JSON."""

from __future__ import annotations

import json

from retarget.policy import Policy
from retarget.retargeter import Retargeter
from tests.support.commands import JOURNEY, MONDAY, Run


def test_export(run: Run, url: str) -> None:
    """It prints what the library's `export` returns, needs no policy, and takes the ad servers' pepper."""
    pepper = "sixteen bytes ok"
    for options in ({}, {"pepper": pepper}):
        with Retargeter(Policy.from_text(JOURNEY), url, prefix="export:", clock=lambda: MONDAY, **options) as ads:  # type: ignore[arg-type]
            ads.record("ben", "impression", "brand", at=MONDAY)
            known = ads.export("ben")
        ran = run("export", "ben", "--store", url, "--prefix", "export:", *(["--pepper", pepper] if options else []))
        assert (ran.code, ran.err, json.loads(ran.out)) == (0, "", known)
        assert json.loads(ran.out)["timelines"]


def test_an_unknown_visitor(run: Run, url: str) -> None:
    """An unknown visitor has no timelines."""
    ran = run("export", "nobody", "--store", url)
    assert (ran.code, json.loads(ran.out)["timelines"]) == (0, {})
