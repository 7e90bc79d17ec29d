"""Journeys under docs/policies/notebook.toml: visitors, and weeks of their lives."""

from __future__ import annotations

from retarget import Candidate
from tests.support.life import Life

NOTEBOOK = Candidate("comeback", item="notebook")
PHONE = Candidate("comeback", item="phone")
LAST_NOTEBOOK = Candidate("last-piece", item="notebook")
PARTNER = "partner-film"
"""A campaign that the policy does not name: it has the defaults."""


def dora() -> Life:
    """Somebody to whom the shop's campaigns are offered for two items."""
    return Life("notebook.toml", NOTEBOOK, PHONE, LAST_NOTEBOOK, PARTNER)


def test_notebook_while_the_interest_is_fresh() -> None:
    """What she looked at follows her for a fortnight, eight times a week at most; half a year later it is forgotten."""
    her = dora()
    her.at("Mon 2026-03-02 20:00")
    her.may_see("brand", PARTNER)
    her.did("visit", "product/notebook")
    her.may_see(NOTEBOOK, "brand", PARTNER)
    her.may_not_see(PHONE, "audience", "visit product/{item} within 14 days", None)
    her.may_not_see("comeback", "audience", "visit product/{item} within 14 days", None)  # of no item: of nothing

    her.at("Mon 2026-03-02 20:05")
    her.is_shown(NOTEBOOK)
    her.may_not_see(NOTEBOOK, "gap", "3 per day, spread", "Tue 2026-03-03 04:05:01")
    for evening in ("Tue 2026-03-03", "Wed 2026-03-04", "Thu 2026-03-05"):
        her.at(f"{evening} 12:00")
        her.is_shown(NOTEBOOK)
        her.at(f"{evening} 20:30")
        her.is_shown(NOTEBOOK)
    her.at("Fri 2026-03-06 12:00")
    her.is_shown(NOTEBOOK)
    her.may_see("brand", PARTNER)  # eight times in a week: every campaign has seen to that together
    her.may_not_see(NOTEBOOK, "cap", "item: 8 per 7 days", "Mon 2026-03-09 20:05:01")
    assert her.counted(NOTEBOOK) == (8, 8)

    her.at("Mon 2026-03-16 12:00")  # a fortnight ago, less eight hours: now or never
    her.may_see(NOTEBOOK, "brand", PARTNER)
    her.is_shown(NOTEBOOK)
    her.may_not_see(NOTEBOOK, "gap", "3 per day, spread", None)  # eight hours from now the visit is too old
    her.at("Mon 2026-03-16 20:00")
    her.may_not_see(NOTEBOOK, "gap", "3 per day, spread", None)
    her.at("Mon 2026-03-16 20:00:01")
    her.may_not_see(NOTEBOOK, "audience", "visit product/{item} within 14 days", None)

    her.at("Wed 2026-09-02 20:00")  # half a year later
    her.may_see("brand", PARTNER)
    her.may_not_see(NOTEBOOK, "audience", "visit product/{item} within 14 days", None)


def test_notebook_she_buys_it() -> None:
    """Coming back three times earns her one push; when she has bought it, it is never advertised to her again."""
    her = dora()
    her.at("Mon 2026-03-23 08:00")
    her.did("visit", "product/notebook")
    her.at("Mon 2026-03-23 19:00")
    her.did("visit", "product/notebook")
    wanted = "3 visit product/{item} within 2 days or add cart/{item} within 2 days"
    her.may_not_see(LAST_NOTEBOOK, "audience", wanted, None)
    her.at("Tue 2026-03-24 07:30")
    her.did("visit", "product/notebook")
    her.may_see(NOTEBOOK, LAST_NOTEBOOK, "brand", PARTNER)
    her.is_shown(LAST_NOTEBOOK)
    her.may_not_see(LAST_NOTEBOOK, "cap", "1 per session", "Tue 2026-03-24 08:00:01")

    her.at("Tue 2026-03-24 07:50")  # she is still there, so the session goes on
    her.did("add", "cart/notebook")
    her.may_not_see(LAST_NOTEBOOK, "cap", "1 per session", "Tue 2026-03-24 08:20:01")
    her.at("Tue 2026-03-24 21:00")
    her.is_shown(LAST_NOTEBOOK)
    her.may_not_see(LAST_NOTEBOOK, "cap", "2 per calendar week", None)  # by Monday she will have gone cold

    her.at("Wed 2026-03-25 09:00")
    her.may_see(NOTEBOOK, "brand", PARTNER)
    her.did("purchase", "product/notebook")
    her.may_see("brand", PARTNER)
    her.may_not_see(NOTEBOOK, "exclude", "purchase product/{item}", None)

    her.at("Mon 2026-11-30 10:00")  # she comes to look at the price of it: who has not?
    her.did("visit", "product/notebook")
    her.did("visit", "product/phone")
    her.may_see(PHONE, "brand", PARTNER)
    her.may_not_see(NOTEBOOK, "exclude", "purchase product/{item}", None)


def test_notebook_she_hides_the_ad() -> None:
    """Hiding the notebook hides it in every campaign, and nothing else; hiding a campaign hides that one."""
    her = dora()
    her.at("Sat 2026-03-28 23:00")
    her.did("visit", "product/notebook")
    her.did("visit", "product/phone")
    her.did("add", "cart/notebook")
    her.may_see(NOTEBOOK, PHONE, LAST_NOTEBOOK, "brand", PARTNER)
    her.is_shown(NOTEBOOK)
    her.may_not_see(NOTEBOOK, "gap", "3 per day, spread", "Sun 2026-03-29 08:00:01")  # the clocks go forward that night

    her.at("Sun 2026-03-29 10:00")
    her.did("dismiss", NOTEBOOK)
    her.may_see(PHONE, "brand", PARTNER)
    her.may_not_see(NOTEBOOK, "exclude", "dismiss item:{item} within 180 days", None)
    her.may_not_see(LAST_NOTEBOOK, "exclude", "dismiss item:{item} within 180 days", None)

    her.at("Fri 2026-09-25 09:59")  # she keeps looking at it, and what is hidden stays hidden
    her.did("visit", "product/notebook")
    her.may_not_see(NOTEBOOK, "exclude", "dismiss item:{item} within 180 days", "Fri 2026-09-25 10:00:01")

    her.at("Fri 2026-09-25 12:00")
    her.may_see(NOTEBOOK, "brand", PARTNER)
    her.did("dismiss", "brand")
    her.did("dismiss", PARTNER)
    her.may_see(NOTEBOOK)
    her.may_not_see("brand", "exclude", "dismiss {campaign}", "Sat 2027-10-30 12:00:01")  # as long as is remembered
    her.may_not_see(PARTNER, "exclude", "dismiss {campaign}", "Sat 2027-10-30 12:00:01")


def test_notebook_a_day_is_local() -> None:
    """The day that the defaults and the advertiser's cap count by is the day where she is."""
    her = Life("notebook.toml", PARTNER, zone="America/New_York")
    her.at("Sat 2026-10-31 20:00")
    her.is_shown(*["brand"] * 4)
    her.may_see(PARTNER)
    her.may_not_see("brand", "cap", "4 per calendar day", "Sun 2026-11-01 00:00:00")
    her.is_shown(*[PARTNER] * 4)
    her.may_see()
    her.may_not_see(PARTNER, "annoyance", "annoyance: 8 per day", "Sun 2026-11-01 19:00:01")  # 24 hours: clocks go back
