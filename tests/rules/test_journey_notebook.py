"""Journeys under docs/policies/notebook.toml: visitors, and weeks of their lives."""

from __future__ import annotations

from retarget import Candidate
from tests.support.life import Life

NOTEBOOK = Candidate("comeback", item="notebook")
PHONE = Candidate("comeback", item="phone")
LAST_NOTEBOOK = Candidate("last-piece", item="notebook")
PARTNER = "partner-film"
"""A campaign that the policy does not name: it has the defaults."""


def a_reader() -> Life:
    """Somebody to whom the shop's campaigns are offered for two items."""
    return Life("notebook.toml", NOTEBOOK, PHONE, LAST_NOTEBOOK, PARTNER)


def test_notebook_while_the_interest_is_fresh() -> None:
    """What Dora looked at is advertised for a fortnight, at most eight times a week; later it is forgotten."""
    dora = a_reader()
    dora.at("Mon 2026-03-02 20:00")
    dora.may_see("brand", PARTNER)
    dora.did("visit", "product/notebook")
    dora.may_see(NOTEBOOK, "brand", PARTNER)
    dora.may_not_see(PHONE, "audience", "visit product/{item} within 14 days", None)
    dora.may_not_see("comeback", "audience", "visit product/{item} within 14 days", None)  # of no item: of nothing

    dora.at("Mon 2026-03-02 20:05")
    dora.is_shown(NOTEBOOK)
    dora.may_not_see(NOTEBOOK, "gap", "3 per day, spread", "Tue 2026-03-03 04:05:01")
    for evening in ("Tue 2026-03-03", "Wed 2026-03-04", "Thu 2026-03-05"):
        dora.at(f"{evening} 12:00")
        dora.is_shown(NOTEBOOK)
        dora.at(f"{evening} 20:30")
        dora.is_shown(NOTEBOOK)
    dora.at("Fri 2026-03-06 12:00")
    dora.is_shown(NOTEBOOK)
    dora.may_see("brand", PARTNER)  # eight times in a week: every campaign has seen to that together
    dora.may_not_see(NOTEBOOK, "cap", "item: 8 per 7 days", "Mon 2026-03-09 20:05:01")
    assert dora.counted(NOTEBOOK) == (8, 8)

    dora.at("Mon 2026-03-16 12:00")  # a fortnight ago, less eight hours: now or never
    dora.may_see(NOTEBOOK, "brand", PARTNER)
    dora.is_shown(NOTEBOOK)
    dora.may_not_see(NOTEBOOK, "gap", "3 per day, spread", None)  # eight hours from now the visit is too old
    dora.at("Mon 2026-03-16 20:00")
    dora.may_not_see(NOTEBOOK, "gap", "3 per day, spread", None)
    dora.at("Mon 2026-03-16 20:00:01")
    dora.may_not_see(NOTEBOOK, "audience", "visit product/{item} within 14 days", None)

    dora.at("Wed 2026-09-02 20:00")  # half a year later
    dora.may_see("brand", PARTNER)
    dora.may_not_see(NOTEBOOK, "audience", "visit product/{item} within 14 days", None)


def test_notebook_she_buys_it() -> None:
    """Coming back three times earns one push; once bought, it is never advertised again."""
    dora = a_reader()
    dora.at("Mon 2026-03-23 08:00")
    dora.did("visit", "product/notebook")
    dora.at("Mon 2026-03-23 19:00")
    dora.did("visit", "product/notebook")
    wanted = "3 visit product/{item} within 2 days or add cart/{item} within 2 days"
    dora.may_not_see(LAST_NOTEBOOK, "audience", wanted, None)
    dora.at("Tue 2026-03-24 07:30")
    dora.did("visit", "product/notebook")
    dora.may_see(NOTEBOOK, LAST_NOTEBOOK, "brand", PARTNER)
    dora.is_shown(LAST_NOTEBOOK)
    dora.may_not_see(LAST_NOTEBOOK, "cap", "1 per session", "Tue 2026-03-24 08:00:01")

    dora.at("Tue 2026-03-24 07:50")  # still there, so the session continues
    dora.did("add", "cart/notebook")
    dora.may_not_see(LAST_NOTEBOOK, "cap", "1 per session", "Tue 2026-03-24 08:20:01")
    dora.at("Tue 2026-03-24 21:00")
    dora.is_shown(LAST_NOTEBOOK)
    dora.may_not_see(LAST_NOTEBOOK, "cap", "2 per calendar week", None)  # by Monday the interest is too old

    dora.at("Wed 2026-03-25 09:00")
    dora.may_see(NOTEBOOK, "brand", PARTNER)
    dora.did("purchase", "product/notebook")
    dora.may_see("brand", PARTNER)
    dora.may_not_see(NOTEBOOK, "exclude", "purchase product/{item}", None)

    dora.at("Mon 2026-11-30 10:00")  # Dora looks up the price again
    dora.did("visit", "product/notebook")
    dora.did("visit", "product/phone")
    dora.may_see(PHONE, "brand", PARTNER)
    dora.may_not_see(NOTEBOOK, "exclude", "purchase product/{item}", None)


def test_notebook_she_hides_the_ad() -> None:
    """Hiding the notebook hides it in every campaign, and nothing else; hiding a campaign hides that one."""
    dora = a_reader()
    dora.at("Sat 2026-03-28 23:00")
    dora.did("visit", "product/notebook")
    dora.did("visit", "product/phone")
    dora.did("add", "cart/notebook")
    dora.may_see(NOTEBOOK, PHONE, LAST_NOTEBOOK, "brand", PARTNER)
    dora.is_shown(NOTEBOOK)
    dora.may_not_see(NOTEBOOK, "gap", "3 per day, spread", "Sun 2026-03-29 08:00:01")  # clocks go forward

    dora.at("Sun 2026-03-29 10:00")
    dora.did("dismiss", NOTEBOOK)
    dora.may_see(PHONE, "brand", PARTNER)
    dora.may_not_see(NOTEBOOK, "exclude", "dismiss item:{item} within 180 days", None)
    dora.may_not_see(LAST_NOTEBOOK, "exclude", "dismiss item:{item} within 180 days", None)

    dora.at("Fri 2026-09-25 09:59")  # visits continue, and what is hidden stays hidden
    dora.did("visit", "product/notebook")
    dora.may_not_see(NOTEBOOK, "exclude", "dismiss item:{item} within 180 days", "Fri 2026-09-25 10:00:01")

    dora.at("Fri 2026-09-25 12:00")
    dora.may_see(NOTEBOOK, "brand", PARTNER)
    dora.did("dismiss", "brand")
    dora.did("dismiss", PARTNER)
    dora.may_see(NOTEBOOK)
    dora.may_not_see("brand", "exclude", "dismiss {campaign}", "Sat 2027-10-30 12:00:01")  # as long as is remembered
    dora.may_not_see(PARTNER, "exclude", "dismiss {campaign}", "Sat 2027-10-30 12:00:01")


def test_notebook_a_day_is_local() -> None:
    """The day that the defaults and the advertiser's cap count by is the visitor's local day."""
    dora = Life("notebook.toml", PARTNER, zone="America/New_York")
    dora.at("Sat 2026-10-31 20:00")
    dora.is_shown(*["brand"] * 4)
    dora.may_see(PARTNER)
    dora.may_not_see("brand", "cap", "4 per calendar day", "Sun 2026-11-01 00:00:00")
    dora.is_shown(*[PARTNER] * 4)
    dora.may_see()
    dora.may_not_see(PARTNER, "annoyance", "annoyance: 8 per day", "Sun 2026-11-01 19:00:01")  # 24 hours
