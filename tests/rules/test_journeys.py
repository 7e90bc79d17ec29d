"""The policies of docs/policies, lived through: visitors, weeks of their lives, what they may be shown when.

Times are local, with their weekday. At each step the library's answer on every candidate is compared with the oracle's
(may she be shown it, and when again), and "when again" is tried: eligible then, and not one second before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

import pytest

from retarget import Candidate, Policy, Retargeter
from retarget.engine import Reason
from retarget.events import Subject
from tests.property.local_time import HOUR, wall, weekday, within_hours
from tests.property.oracle import Oracle, Target

POLICIES = Path(__file__).parents[2] / "docs" / "policies"


class HalfHourOracle(Oracle):
    """The oracle, for policies whose hours begin on the half hour: it need not try every minute of a year."""

    def _probes(self, candidate: Target, begin: int, end: int, zone: str | None) -> Iterator[int]:
        yield begin
        rules = self.policy.rules(candidate.campaign if isinstance(candidate, Candidate) else candidate)
        local = ZoneInfo(zone or self.policy.timezone)
        if rules and (rules.hours or rules.days):
            spans = rules.hours.spans if rules.hours else None
            days = rules.days.days if rules.days else None
            half = HOUR // 2
            yield from (at for at in range(begin // half * half + half, end, half) if _opens(at, spans, days, local))


@cache
def _opens(at: int, spans: tuple[tuple[int, int], ...] | None, days: frozenset[int] | None, zone: ZoneInfo) -> bool:
    before, after = [
        (spans is None or within_hours(shown, spans)) and (days is None or weekday(shown) in days)
        for shown in (wall(at - 1, zone), wall(at, zone))
    ]
    return after and not before


class Life:
    """One visitor under one policy: a clock that is set, the library over memory, and the oracle beside it."""

    def __init__(self, policy: str, *more: Subject, zone: str | None = None) -> None:
        self.policy = Policy.from_toml(POLICIES / policy)
        self.home = ZoneInfo(zone or self.policy.timezone)
        self.zone = zone
        self.offered: tuple[Subject, ...] = (*self.policy.campaign, *more)
        self.now = 0
        self.compared: set[Subject] = set()  # at this moment, after what has happened so far
        self.oracle = HalfHourOracle(self.policy)
        self.ads = Retargeter(self.policy, "memory://", clock=lambda: self.now)

    def at(self, when: str) -> None:
        """Time has gone on to `Mon 2026-11-02 20:10`."""
        self.now, before = self._second(when), self.now
        self.compared.clear()
        assert self.now >= before, f"{when} has been"

    def did(self, event: str, subject: Subject | None = None) -> None:
        """Something happened now."""
        self.compared.clear()
        assert self.ads.record("she", event, subject)
        assert self.oracle.record("she", event, subject, self.now)

    def is_shown(self, *candidates: Subject) -> None:
        """Each is claimed, and may be."""
        self.compared.clear()
        for candidate in candidates:
            claim = self.ads.claim("she", [candidate], timezone=self.zone)
            assert claim, (candidate, self.ads.decide("she", [candidate], timezone=self.zone)[candidate])
            assert self.oracle.claim("she", [candidate], self.now, zone=self.zone) == candidate

    def is_not_shown(self, candidate: Subject) -> None:
        """It is claimed, and must not be."""
        assert self.ads.claim("she", [candidate], timezone=self.zone) is None
        assert self.oracle.claim("she", [candidate], self.now, zone=self.zone) is None

    def may_see(self, *candidates: Subject) -> None:
        """Of everything that is offered she may be shown these now, and nothing else."""
        decision = self.ads.decide("she", self.offered, timezone=self.zone)
        assert set(decision.eligible) == set(candidates)
        everything = self.ads.decide("she", timezone=self.zone)
        assert everything.eligible == tuple(c for c in self.policy.campaign if c in candidates)
        for candidate in self.offered:
            self._compare(candidate)

    def may_not_see(self, candidate: Subject, reason: Reason, rule: str, again: str | None) -> None:
        """Why she may not be shown it, and when she may be if nothing else happens."""
        decision = self.ads.decide("she", [candidate], timezone=self.zone)
        verdict = decision[candidate]
        eligible_at = verdict.eligible_at and f"{verdict.eligible_at.astimezone(self.home):%a %Y-%m-%d %H:%M:%S}"
        assert (verdict.reason, verdict.rule, eligible_at) == (reason, rule, again)
        assert not verdict
        self._compare(candidate)

    def counted(self, candidate: Subject) -> tuple[int | None, int | None]:
        """How much of its rule's limit is used."""
        verdict = self.ads.decide("she", [candidate], timezone=self.zone)[candidate]
        return verdict.seen, verdict.limit

    def patience(self) -> str:
        """The threshold in force and what is used of it."""
        level = self.ads.decide("she", []).annoyance
        assert level is not None
        return f"{level.segment}: {level.points} of {level.rule}"

    def _compare(self, candidate: Subject) -> None:
        if candidate in self.compared:
            return
        self.compared.add(candidate)
        verdict = self.ads.decide("she", [candidate], timezone=self.zone)[candidate]
        told = self.oracle.decide("she", candidate, self.now, self.zone)
        assert verdict.eligible is told.eligible, (candidate, verdict, told)
        assert verdict.reason in get_args(Reason)
        again = None if verdict.eligible_at is None else int(verdict.eligible_at.timestamp())
        assert again == self.oracle.eligible_at("she", candidate, self.now, self.zone), (candidate, verdict)
        if again is not None and not verdict:
            assert again > self.now
            assert self.ads.decide("she", [candidate], now=again, timezone=self.zone).eligible == (candidate,)
            assert self.ads.decide("she", [candidate], now=again - 1, timezone=self.zone).eligible == ()

    def _second(self, when: str) -> int:
        day, _, rest = when.partition(" ")
        local = datetime.fromisoformat(rest).replace(tzinfo=self.home)
        assert f"{local:%a}" == day, f"{rest} is a {local:%a}"
        return int(local.timestamp())


# ---- webinar.toml ----


INVITE = "2 visit pricing within 14 days or download handbook within 30 days"


def test_webinar_she_came() -> None:
    """Anna reads the prices, is invited, sees the film, signs up, comes: and hears of the price, not the recording."""
    anna = Life("webinar.toml")

    anna.at("Mon 2026-11-02 20:10")
    anna.did("visit", "pricing")
    anna.may_see()
    anna.may_not_see("webinar-invite", "audience", INVITE, None)
    anna.may_not_see("webinar-video", "audience", "click webinar-invite within 14 days", None)

    anna.at("Tue 2026-11-03 12:30")  # again: she means it; but mails go out in the morning
    anna.did("visit", "pricing")
    anna.may_not_see("webinar-invite", "hours", "hours 09:00-11:00", "Wed 2026-11-04 09:00:00")

    anna.at("Wed 2026-11-04 09:00")
    anna.may_see("webinar-invite")
    anna.is_shown("webinar-invite")
    anna.may_see()  # the gap is over on Saturday, the next day for mails is Tuesday
    anna.may_not_see("webinar-invite", "gap", "gap 3 days", "Tue 2026-11-10 09:00:00")
    assert anna.patience() == "annoyance: 3 of 10 per 7 days"

    anna.at("Wed 2026-11-04 19:40")  # she opens it in the evening, and leaves it at that
    anna.did("click", "webinar-invite")
    anna.may_see("webinar-video")
    anna.is_shown("webinar-video")
    anna.may_not_see("webinar-video", "gap", "2 per calendar day, spread", "Thu 2026-11-05 07:40:01")

    anna.at("Thu 2026-11-05 07:50")
    anna.may_see("webinar-video")
    anna.is_shown("webinar-video")

    anna.at("Thu 2026-11-05 20:00")
    anna.is_shown("webinar-video")
    anna.may_see()  # nine points of ten: the next film waits until the mail is a week old, and for the evening
    anna.may_not_see("webinar-video", "annoyance", "annoyance: 10 per 7 days", "Wed 2026-11-11 18:00:00")
    assert anna.counted("webinar-video") == (9, 10)

    anna.at("Sun 2026-11-08 16:00")
    anna.did("signup", "webinar")
    anna.may_see()  # she has signed up: no invitation and no film, ever
    anna.may_not_see("webinar-invite", "exclude", "signup webinar", None)
    anna.may_not_see("webinar-video", "exclude", "signup webinar", None)
    anna.may_not_see("webinar-offer", "audience", "attend webinar within 21 days", None)
    anna.may_not_see("webinar-recording", "start", "start 2026-11-20", "Fri 2026-11-20 08:00:00")

    anna.at("Thu 2026-11-19 17:05")
    anna.did("attend", "webinar")
    anna.may_see()
    anna.may_not_see("webinar-offer", "start", "start 2026-11-19T18:30:00", "Thu 2026-11-19 18:30:00")
    anna.may_not_see("webinar-recording", "exclude", "attend webinar", None)

    anna.at("Fri 2026-11-20 08:00")
    anna.may_see("webinar-offer")
    anna.is_shown("webinar-offer", "webinar-offer")
    anna.may_not_see("webinar-offer", "cap", "2 per calendar day", "Sat 2026-11-21 08:00:00")
    anna.at("Sat 2026-11-21 10:00")
    anna.is_shown("webinar-offer", "webinar-offer")
    anna.at("Sun 2026-11-22 20:59")
    anna.is_shown("webinar-offer", "webinar-offer")
    anna.may_see()  # six: that was it
    anna.may_not_see("webinar-offer", "cap", "6 per flight", None)

    anna.at("Mon 2026-12-14 12:00")  # all is over
    anna.may_see()
    anna.may_not_see("webinar-offer", "end", "end 2026-12-13", None)


def test_webinar_he_meant_to_come() -> None:
    """Ben downloads the handbook, signs up from the first mail, does not come: and is told where the recording is."""
    ben = Life("webinar.toml")

    ben.at("Mon 2026-10-26 15:00")
    ben.did("download", "handbook")
    ben.may_see()  # it has not begun: from Monday 2 November on, and mails from the Tuesday on
    ben.may_not_see("webinar-invite", "start", "start 2026-11-02", "Tue 2026-11-03 09:00:00")

    ben.at("Tue 2026-11-03 10:59")
    ben.may_see("webinar-invite")
    ben.is_shown("webinar-invite")
    ben.did("click", "webinar-invite")
    ben.did("signup", "webinar")
    ben.may_see()
    ben.may_not_see("webinar-video", "exclude", "signup webinar", None)

    ben.at("Fri 2026-11-20 00:00")  # he was not there
    ben.may_see()
    ben.may_not_see("webinar-recording", "hours", "hours 08:00-21:00", "Fri 2026-11-20 08:00:00")
    ben.may_not_see("webinar-offer", "audience", "attend webinar within 21 days", None)

    ben.at("Fri 2026-11-20 08:00")
    ben.may_see("webinar-recording")
    ben.is_shown("webinar-recording")
    ben.may_not_see("webinar-recording", "gap", "gap 4 days", "Tue 2026-11-24 08:00:01")

    ben.at("Tue 2026-11-24 08:30")
    ben.may_see("webinar-recording")
    ben.is_shown("webinar-recording")
    ben.may_not_see("webinar-recording", "cap", "2 per flight", None)

    ben.at("Wed 2026-11-25 21:15")
    ben.did("watch", "recording")
    ben.may_see()
    ben.may_not_see("webinar-recording", "exclude", "watch recording", None)


def test_webinar_he_never_answered() -> None:
    """Carl gets three invitations, three days apart, reacts to none, and is left alone."""
    carl = Life("webinar.toml")

    carl.at("Tue 2026-11-03 10:30")
    carl.did("visit", "pricing")
    carl.did("visit", "pricing")
    carl.is_shown("webinar-invite")
    carl.may_not_see("webinar-invite", "gap", "gap 3 days", "Tue 2026-11-10 09:00:00")

    carl.at("Thu 2026-11-12 10:00")
    carl.may_see("webinar-invite")
    carl.is_shown("webinar-invite")
    carl.may_see()  # on Tuesday morning his visits will be a fortnight old, less an hour and a half
    carl.may_not_see("webinar-invite", "gap", "gap 3 days", "Tue 2026-11-17 09:00:00")

    carl.at("Tue 2026-11-17 10:30")
    carl.may_see("webinar-invite")
    carl.at("Tue 2026-11-17 10:30:01")
    carl.may_not_see("webinar-invite", "audience", INVITE, None)
    carl.did("visit", "pricing")
    carl.did("visit", "pricing")

    carl.at("Tue 2026-11-17 10:59:59")  # the last second of the last day
    carl.may_see("webinar-invite")
    carl.is_shown("webinar-invite")
    carl.may_see()
    carl.may_not_see("webinar-invite", "cap", "3 per flight", None)

    carl.at("Wed 2026-11-18 10:00")
    carl.may_not_see("webinar-invite", "end", "end 2026-11-17", None)
    carl.is_not_shown("webinar-invite")


# ---- notebook.toml ----


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


# ---- cart.toml ----


def test_cart_the_card_was_declined() -> None:
    """Greta could not pay: she is helped, nobody reminds her, and after the call everybody else keeps quiet."""
    greta = Life("cart.toml")
    greta.at("Thu 2026-11-05 18:30")
    greta.did("add", "cart")
    greta.may_see("cart-reminder", "cart-banner", "sale")

    greta.at("Thu 2026-11-05 18:40")
    greta.did("decline", "payment")
    greta.may_see("payment-help", "sale")
    greta.may_not_see("cart-reminder", "exclude", "decline payment within 7 days", None)  # by then the cart is cold
    greta.may_not_see("cart-banner", "exclude", "decline payment within 7 days", None)
    greta.may_not_see("payment-call", "audience", "2 decline payment within 4 days", None)
    greta.is_shown("payment-help")
    greta.may_not_see("payment-help", "cap", "1 per day", "Fri 2026-11-06 18:40:01")
    assert greta.patience() == "annoyance: 0 of 12 per 7 days"  # help is not counted

    greta.at("Thu 2026-11-05 19:10")
    greta.did("decline", "payment")  # another card
    greta.may_not_see("payment-call", "hours", "hours 09:00-12:00, 14:00-17:00", "Fri 2026-11-06 09:00:00")

    greta.at("Fri 2026-11-06 09:05")
    greta.may_see("payment-call", "sale")
    greta.is_shown("sale")
    greta.is_shown("payment-call")
    assert greta.patience() == "annoyance: 11 of 12 per 7 days"
    greta.may_see("sale")
    greta.may_not_see("payment-call", "cap", "1 per 30 days", None)
    greta.is_shown("sale")
    greta.may_see()
    greta.may_not_see("sale", "annoyance", "annoyance: 12 per 7 days", "Fri 2026-11-13 09:05:01")
    assert greta.counted("sale") == (12, 12)
    # A mail would be three points, and she has been called: the second help waits too, until it is of no use.
    greta.may_not_see("payment-help", "annoyance", "annoyance: 12 per 7 days", None)

    greta.at("Fri 2026-11-06 15:00")
    greta.did("purchase")
    greta.may_see()
    greta.at("Fri 2026-11-13 09:05:01")
    greta.may_see("sale")
    greta.may_not_see("payment-call", "audience", "2 decline payment within 4 days", None)


def test_cart_help_comes_twice_at_most() -> None:
    """Gustav's card is declined on a Friday: one mail a day, two a month, no call on the weekend; a click ends it."""
    gustav = Life("cart.toml")
    gustav.at("Fri 2026-11-27 17:30")
    gustav.did("add", "cart")
    gustav.did("decline", "payment")
    gustav.is_shown("payment-help")
    gustav.at("Sat 2026-11-28 09:30")
    gustav.did("decline", "payment")
    gustav.may_see("sale")
    gustav.may_not_see("payment-call", "days", "days mon-fri", "Mon 2026-11-30 09:00:00")

    gustav.at("Sat 2026-11-28 17:30:01")
    gustav.may_see("payment-help", "sale")
    gustav.is_shown("payment-help")
    gustav.may_not_see("payment-help", "cap", "2 per 30 days", None)

    gustav.at("Mon 2026-11-30 11:59:59")
    gustav.may_see("payment-call", "sale")
    gustav.is_shown("payment-call")
    gustav.may_not_see("payment-call", "cap", "1 per 30 days", None)

    gustav.at("Mon 2026-12-28 10:00")  # a month on it happens again: help is welcome once more, a call is not yet
    gustav.did("decline", "payment")
    gustav.did("decline", "payment")
    gustav.may_see("payment-help", "sale")
    gustav.may_not_see("payment-call", "cap", "1 per 30 days", "Wed 2026-12-30 14:00:00")
    gustav.is_shown("payment-help")
    gustav.did("click", "payment-help")
    gustav.may_see("sale")
    gustav.may_not_see("payment-help", "exclude", "click payment-help within 2 days", None)


def test_cart_simply_left() -> None:
    """Hanna left it without a word: two mails a day apart, a few banners, and by the next week it is over."""
    hanna = Life("cart.toml")
    hanna.at("Mon 2026-11-09 21:00")
    hanna.did("add", "cart")
    hanna.may_see("cart-banner", "sale")
    hanna.may_not_see("cart-reminder", "hours", "hours 08:00-20:00", "Tue 2026-11-10 08:00:00")
    hanna.may_not_see("payment-help", "audience", "decline payment within 2 days", None)

    hanna.at("Mon 2026-11-09 21:58")
    hanna.is_shown("cart-banner", "cart-banner")
    hanna.may_not_see("cart-banner", "cap", "2 per calendar hour", "Mon 2026-11-09 22:00:00")
    hanna.at("Mon 2026-11-09 22:00")
    hanna.is_shown("cart-banner", "cart-banner")
    hanna.may_not_see("cart-banner", "cap", "4 per day", "Tue 2026-11-10 21:58:01")

    hanna.at("Tue 2026-11-10 08:30")
    hanna.is_shown("cart-reminder")
    hanna.may_not_see("cart-reminder", "gap", "gap 1 day", "Wed 2026-11-11 08:30:01")
    hanna.at("Wed 2026-11-11 09:00")
    hanna.is_shown("cart-reminder")
    assert hanna.patience() == "annoyance: 10 of 12 per 7 days"
    hanna.may_see("cart-banner", "sale")
    hanna.may_not_see("cart-reminder", "cap", "2 per 7 days", None)

    hanna.at("Mon 2026-11-16 21:00")
    hanna.may_see("cart-banner", "sale")
    hanna.at("Mon 2026-11-16 21:00:01")
    hanna.may_see("sale")
    hanna.may_not_see("cart-banner", "audience", "add cart within 7 days", None)


# ---- customer.toml ----


def test_customer_before_and_after_the_purchase() -> None:
    """Ida is courted, buys, and is courted no more for what she has; her order's mails come whatever happens."""
    ida = Life("customer.toml")
    ida.at("Wed 2026-02-04 12:00")
    ida.did("visit", "product/notebook")
    ida.may_see("invoice", "delivery", "try-notebook")
    ida.is_shown("try-notebook", "try-notebook")
    ida.may_not_see("try-notebook", "cap", "2 per day", "Thu 2026-02-05 12:00:01")
    ida.at("Thu 2026-02-05 13:00")
    ida.is_shown("try-notebook", "try-notebook")
    ida.may_not_see("try-notebook", "annoyance", "annoyance: 4 per 7 days", "Wed 2026-02-11 12:00:01")
    assert ida.patience() == "annoyance: 4 of 4 per 7 days"

    ida.at("Sat 2026-02-07 10:00")
    ida.did("purchase", "product/notebook")
    ida.did("subscribe", "newsletter")
    assert ida.patience() == "segment customers: 4 of 10 per 7 days"
    ida.may_see("invoice", "delivery", "sleeve")
    ida.may_not_see("try-notebook", "exclude", "purchase product/notebook", "Mon 2028-02-07 10:00:01")
    ida.may_not_see("win-back", "exclude", "purchase within 180 days", "Thu 2026-08-06 11:00:01")  # it is summer then
    ida.is_shown(*["invoice"] * 12)
    assert ida.patience() == "segment customers: 4 of 10 per 7 days"  # an invoice is as if it had not been
    ida.is_shown("delivery", "delivery")
    assert ida.patience() == "segment customers: 10 of 10 per 7 days"  # a delivery is a mail that she got
    ida.may_see("invoice", "delivery")  # and these two come all the same
    ida.may_not_see("sleeve", "annoyance", "segment customers: 10 per 7 days", "Wed 2026-02-11 12:00:01")
    ida.is_shown("delivery")
    ida.may_not_see("newsletter", "annoyance", "segment customers: 10 per 7 days", "Tue 2026-02-17 00:00:00")

    ida.at("Wed 2026-02-18 09:00")
    ida.may_see("invoice", "delivery", "sleeve")
    ida.is_shown("sleeve")
    ida.may_not_see("sleeve", "gap", "gap 6 hours", "Wed 2026-02-18 15:00:01")
    ida.at("Thu 2026-02-19 09:00")
    ida.may_see("invoice", "delivery", "sleeve", "newsletter")
    ida.is_shown("sleeve", "newsletter")
    ida.may_not_see("newsletter", "cap", "1 per calendar week", "Tue 2026-02-24 00:00:00")
    ida.at("Fri 2026-02-20 09:00")
    ida.is_shown("sleeve")
    ida.may_not_see("sleeve", "cap", "3 per calendar week", "Sun 2026-02-22 00:00:00")  # her weeks begin on Sunday
    ida.did("purchase", "product/sleeve")
    ida.may_not_see("sleeve", "exclude", "purchase product/sleeve", None)


def test_customer_upset() -> None:
    """A complaint stands before being a customer: the tighter threshold is hers for a month, then the old one."""
    julia = Life("customer.toml")
    julia.at("Mon 2026-05-04 10:00")
    julia.did("purchase", "product/notebook")
    julia.did("subscribe", "newsletter")
    julia.at("Tue 2026-05-05 10:00")
    julia.is_shown("newsletter", "sleeve")
    assert julia.patience() == "segment customers: 4 of 10 per 7 days"
    julia.at("Wed 2026-05-06 10:00")
    julia.did("complaint")
    assert julia.patience() == "segment upset: 4 of 3 per 30 days"
    julia.may_see("invoice", "delivery")
    # From the second on at which the complaint no longer makes the threshold, or the points are gone: the first counts.
    julia.may_not_see("sleeve", "annoyance", "segment upset: 3 per 30 days", "Thu 2026-06-04 10:00:01")

    julia.at("Thu 2026-06-04 10:00:01")
    assert julia.patience() == "segment upset: 0 of 3 per 30 days"
    julia.may_see("invoice", "delivery", "sleeve", "newsletter")
    julia.is_shown("newsletter")
    julia.may_not_see("sleeve", "annoyance", "segment upset: 3 per 30 days", "Fri 2026-06-05 10:00:01")

    julia.at("Fri 2026-06-05 10:00:01")
    assert julia.patience() == "segment customers: 3 of 10 per 7 days"
    julia.may_see("invoice", "delivery", "sleeve")


def test_customer_won_back() -> None:
    """Kim bought and went: after half a year and two quiet months one mail a month, three in all; a visit stops it."""
    kim = Life("customer.toml")
    kim.at("Sat 2026-01-10 10:00")
    kim.may_not_see("win-back", "audience", "purchase", None)
    kim.did("purchase", "product/notebook")
    kim.at("Fri 2026-06-05 20:00")
    kim.did("visit", "product/phone")
    kim.may_not_see("win-back", "exclude", "visit within 60 days", "Tue 2026-08-04 20:00:01")

    kim.at("Tue 2026-08-04 20:00:01")
    kim.may_see("invoice", "delivery", "win-back")
    kim.is_shown("win-back")
    kim.may_not_see("win-back", "cap", "1 per calendar month", "Tue 2026-09-01 00:00:00")

    kim.at("Tue 2026-09-01 00:00")
    kim.is_shown("win-back")
    kim.at("Wed 2026-09-02 08:00")  # and there is Kim
    kim.did("click", "win-back")
    kim.did("visit", "product/sleeve")
    kim.may_not_see("win-back", "exclude", "visit within 60 days", "Sun 2026-11-01 07:00:01")  # winter time again

    kim.at("Tue 2026-11-03 12:00")
    kim.is_shown("win-back")
    kim.may_not_see("win-back", "cap", "3 per lifetime", None)  # when it is forgotten, so is the purchase
    kim.at("Mon 2027-01-11 12:00")  # more than a year after the purchase Kim is no customer any more
    assert kim.patience() == "annoyance: 0 of 4 per 7 days"
    kim.at("Mon 2028-01-10 12:00")  # two years after it, it is forgotten; a notebook may be of interest again
    kim.may_see("invoice", "delivery", "try-notebook")
    kim.may_not_see("win-back", "audience", "purchase", None)


# ---- all four ----


USES: dict[str, Callable[[Policy], object]] = {
    "points per channel": lambda p: p.annoyance and p.annoyance.points,
    "a threshold per segment": lambda p: p.annoyance and p.annoyance.segment,
    "a cap per label": lambda p: any(":" not in key for key in p.caps),
    "a cap for one label": lambda p: any(":" in key for key in p.caps),
    "defaults": lambda p: p.defaults,
    "{item}": lambda p: _conditions(p, "{item}"),
    "{campaign}": lambda p: _conditions(p, "{campaign}"),
    "any": lambda p: any(len(clause) > 1 for c in p.campaign.values() for clause in c.audience),
    "exclude": lambda p: any(c.exclude for c in p.campaign.values()),
    "a count of events": lambda p: any(x.count > 1 for c in p.campaign.values() for y in c.audience for x in y),
    "gap": lambda p: any(c.gap for c in p.campaign.values()),
    "spread": lambda p: any(cap.spread for c in p.campaign.values() for cap in c.caps),
    "hours": lambda p: any(c.hours for c in p.campaign.values()),
    "several hours": lambda p: any(c.hours and len(c.hours.spans) > 1 for c in p.campaign.values()),
    "days": lambda p: any(c.days for c in p.campaign.values()),
    "start and end": lambda p: any(c.start and c.end for c in p.campaign.values()),
    "obeys = false, counted": lambda p: any(not c.obeys and c.counts for c in p.campaign.values()),
    "obeys = false, not counted": lambda p: any(not c.obeys and not c.counts for c in p.campaign.values()),
    "counts = false, capped": lambda p: any(c.obeys and not c.counts for c in p.campaign.values()),
    "weeks from Sunday": lambda p: p.week_start == "sunday",
    "per duration": lambda p: "rolling" in _periods(p),
    "per calendar hour": lambda p: "hour" in _periods(p),
    "per calendar day": lambda p: "day" in _periods(p),
    "per calendar week": lambda p: "week" in _periods(p),
    "per calendar month": lambda p: "month" in _periods(p),
    "per flight": lambda p: "flight" in _periods(p),
    "per lifetime": lambda p: "lifetime" in _periods(p),
    "per session": lambda p: "session" in _periods(p),
}


def _periods(policy: Policy) -> set[str]:
    return {cap.window.period for campaign in policy.campaign.values() for cap in campaign.caps}


def _conditions(policy: Policy, template: str) -> bool:
    rules = [*policy.campaign.values(), *([policy.defaults] if policy.defaults else [])]
    return any(template in (condition.subject or "") for rule in rules for condition in rule.exclude)


@pytest.mark.parametrize("kind", USES)
def test_the_examples_use_every_kind_of_rule(kind: str) -> None:
    """Each kind of rule is in at least one of the four example policies."""
    assert any(USES[kind](Policy.from_toml(path)) for path in POLICIES.glob("*.toml"))
