"""A synthetic shop's traffic: some weeks of visits, ads, clicks and purchases, the same on every machine.

Rules:
- The same arguments give the same rows on every machine and Python. So all chance is `Random.random()` (the one
  sequence that Python promises to keep), arithmetic is + - * / and sqrt (rounded alike everywhere; exp, log and powers
  are not, and `sum` of floats changed in 3.12), and no set is iterated.
- A visitor is simulated forward in time: what they are shown or do next depends only on what came before.
- The ad server here caps nothing. It knows who saw what, and never asks whether that was enough.

The shape is that of real logs: most visitors see one to three ads and a few see hundreds; ads come in bursts, minutes
apart; evenings and weekends are busy; each further exposure is clicked less; some pixels fire twice.
"""

from __future__ import annotations

import csv
import gzip
import io
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from heapq import heappop, heappush
from itertools import accumulate, count
from math import sqrt
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import NamedTuple

from retarget.errors import InputError

HOUR, DAY = 3_600, 86_400
MONDAY = 1_793_577_600  # 2026-11-02 00:00 UTC
LAST_SECOND = 2**32 - 1  # a timeline's entry is an unsigned 32-bit number of seconds


class _Campaign(NamedTuple):
    name: str
    advertiser: str
    channel: str
    after: str  # shown only to visitors with this event, as "event subject"; "" is everyone
    weight: int  # share of the ad slots among the campaigns that fit; 0 for messages, which fill no slot
    cost: float  # per impression, in the shop's currency
    click: float  # chance that the first exposure is clicked (a call: leads to a visit)
    landing: str  # the page that a click opens
    creatives: tuple[str, ...]
    items: tuple[str, ...] = ()


_ADS = (
    _Campaign("brand", "oyashop", "display", "", 6, 0.003, 0.020, "home", ("autumn-wide", "autumn-tall")),
    _Campaign("phone-launch", "pico", "video", "", 3, 0.018, 0.030, "product/phone", ("unboxing-15s", "unboxing-30s")),
    _Campaign("laptop-week", "lumen", "display", "visit category/computers", 5, 0.005, 0.030, "product/notebook",
              ("lid-open", "lid-shut"), ("lumen-13", "lumen-15")),
    _Campaign("notebook-comeback", "oyashop", "display", "visit product/notebook", 18, 0.006, 0.050, "product/notebook",
              ("still-here", "price-drop"), ("lumen-13", "lumen-15")),
    _Campaign("phone-comeback", "oyashop", "display", "visit product/phone", 18, 0.006, 0.048, "product/phone",
              ("still-here", "trade-in"), ("pico-5", "pico-5-max")),
    _Campaign("webinar-video", "oyashop", "video", "click webinar-invite", 30, 0.020, 0.070, "webinar",
              ("teaser", "speaker")),
)  # fmt: skip
_CART_MAIL = _Campaign("cart-reminder", "oyashop", "email", "visit cart", 0, 0.001, 0.070, "cart", ("basket",))
_INVITE = _Campaign("webinar-invite", "oyashop", "email", "visit pricing", 0, 0.001, 0.160, "webinar", ("agenda",))
_CALL = _Campaign("advisor-call", "oyashop", "call", "visit pricing", 0, 1.8, 0.120, "pricing", ("script-a",))

_PRODUCTS = (  # name, category, price, relative demand
    ("notebook", "computers", 1_190, 5),
    ("phone", "phones", 690, 6),
    ("headset", "audio", 140, 4),
    ("monitor", "computers", 320, 2),
)
_DEMAND = list(accumulate(product[3] for product in _PRODUCTS))
_HOURS = (3, 2, 1, 1, 1, 2, 5, 9, 11, 12, 12, 12, 14, 13, 12, 12, 13, 15, 18, 22, 25, 22, 14, 7)
_WEEKDAYS = (10, 10, 10, 10, 9, 12, 14)  # Monday first

_SEES_NO_AD = 0.10  # share of the visitors
_ORGANIC = 0.60  # share of the visitors who come to the shop without an ad
_READS_MAIL = 0.35  # share of the visitors whose e-mail address the shop has
_PIXEL_TWICE = 0.004  # share of impressions whose pixel fires twice (iPinYou's log: 40 of 10,000)
_ADS_A_DAY = 20  # at most per visitor, averaged over all days: bounds the heaviest
_STRANGER = 12  # ads at most for a visitor who never came to the shop
_BURST = 12  # ads at most in one burst
_SESSIONS = 30  # visits at most, without a click
_WEAR = 4  # exposures to a campaign that halve its click rate
_WEARY = 60  # ads of any kind that halve it again
_HIDES = 0.0006  # chance that an ad is hidden, per earlier exposure, of which twelve count
_CREDIT = 7 * DAY  # a purchase is attributed to the last ad clicked within this time
_ON_A_CAMPAIGN = ("impression", "click", "conversion", "dismiss")
_COLUMNS = "at,visitor,event,subject,campaign,id,channel,advertiser,creative,item,cost,value"


@dataclass(frozen=True, slots=True)
class Row:
    """One event, a row of the log. A field that does not apply is "" or 0.0.

    - `at`: epoch seconds.
    - `event`: visit, impression, click, conversion, dismiss ("hide this ad"), purchase or signup.
    - `subject`: the campaign of an impression, click, conversion or dismissal; else the page, product or list.
    - `id`: of an impression; a pixel that fired twice leaves two rows with one id, 1 to 45 seconds apart.
    - `channel` (display, video, email, call), `advertiser`, `creative`, `item`: of events on a campaign.
    - `cost`: of an impression. `value`: of a purchase, and again of the conversion it is attributed to. One currency.
    """

    at: int
    visitor: str
    event: str
    subject: str = ""
    id: str = ""
    channel: str = ""
    advertiser: str = ""
    creative: str = ""
    item: str = ""
    cost: float = 0.0
    value: float = 0.0


def shop(*, visitors: int = 10_000, days: int = 21, seed: int = 1, start: int = MONDAY) -> list[Row]:
    """Make the shop's events in time order, those of one second in a fixed order.

    - `visitors`: 1 or more, with at least one row each and the ids v1, v2, ...
    - `days`: 1 to 3660. A visitor's ads are spread over them; only the heaviest visitors (20 ads a day) get more.
    - `seed`: 0 or more; another seed gives other visitors with the same habits.
    - `start`: epoch seconds of the first midnight, shop time; every row is in [start, start + days * 86400).

    Raises InputError for an argument out of its range.
    """
    _check("visitors", visitors, 1, None)
    _check("days", days, 1, 3660)
    _check("seed", seed, 0, None)
    _check("start", start, 0, LAST_SECOND - days * DAY)
    chance = Random(seed).random
    calendar = _Calendar(chance, start, days)
    rows: list[Row] = []
    for number in range(1, visitors + 1):
        rows += _Visitor(f"v{number}", chance, calendar).run()
    rows.sort(key=attrgetter("at"))  # stable: rows of one second keep their order
    return rows


def write_csv(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows as a log that `retarget replay` reads; gzipped if the name ends in .gz.

    Equal rows make equal bytes (gzipped: with the same zlib). Money is written as Python prints it, 0.0 for none.
    `campaign` repeats `subject` for events on a campaign and is empty for the others. Raises OSError.
    """
    path = Path(path)
    with path.open("wb") as raw:
        # Without the name and the time in the gzip header, equal rows make equal files.
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        with io.TextIOWrapper(packed, encoding="utf-8", newline="") as text:
            text.write(_COLUMNS + "\n")
            table = csv.writer(text, lineterminator="\n")
            for r in rows:
                campaign = r.subject if r.event in _ON_A_CAMPAIGN else ""
                ad = (r.id, r.channel, r.advertiser, r.creative, r.item, r.cost, r.value)
                table.writerow((r.at, r.visitor, r.event, r.subject, campaign, *ad))


def _check(name: str, value: object, least: int, most: int | None) -> None:
    right = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}"
    if type(value) is not int or value < least or (most is not None and value > most):
        raise InputError(f"{name} must be {right}, got {value!r}")


def _pick(chance: Callable[[], float], running_total: list[int]) -> int:
    """Draw an index with a probability in proportion to its weight."""
    return bisect_right(running_total, chance() * running_total[-1])


def _heavy(chance: Callable[[], float], most: int) -> int:
    """Draw a heavy-tailed number, 1 to `most`: it is n or more with probability n ** (-8/7)."""
    half = sqrt(1.0 - chance())  # to the power 1/2; above 0, since chance() is below 1
    quarter = sqrt(half)
    return min(most, int(1.0 / (half * quarter * sqrt(quarter))))


class _Calendar:
    """When visitors are active: the rhythm of the week and of the day."""

    def __init__(self, chance: Callable[[], float], start: int, days: int) -> None:
        self.chance, self.start, self.days, self.end = chance, start, days, start + days * DAY
        # Noon after a local midnight is on the same date in nearly every time zone. Day 0 was a Thursday.
        first_weekday = ((start + DAY // 2) // DAY + 3) % 7
        self.by_day = list(accumulate(_WEEKDAYS[(first_weekday + day) % 7] for day in range(days)))
        self.by_hour = list(accumulate(_HOURS))

    def moment(self) -> int:
        """Draw a second at which visitors are active."""
        day, hour = _pick(self.chance, self.by_day), _pick(self.chance, self.by_hour)
        return self.start + day * DAY + hour * HOUR + int(self.chance() * HOUR)

    def morning(self, at: int, days_later: int) -> int:
        """Draw a second between 9:00 and 12:00, `days_later` than `at`."""
        day = (at - self.start) // DAY + days_later
        return self.start + day * DAY + 9 * HOUR + int(self.chance() * 3 * HOUR)


class _Visitor:
    """One visitor: an agenda, worked off in time order, and the rows it leaves."""

    def __init__(self, name: str, chance: Callable[[], float], calendar: _Calendar) -> None:
        self.name, self.chance, self.calendar = name, chance, calendar
        self.rows: list[Row] = []
        self.agenda: list[tuple[int, int, Callable[[int], None]]] = []  # when, order of planning, step
        self.order = count()
        self.first: dict[str, int] = {}  # "event subject" -> when it first happened
        self.exposures: dict[str, int] = {}
        self.shown = self.pricing = 0
        self.clicked: Row | None = None  # the last click: a purchase is attributed to it
        self.wants = _PRODUCTS[_pick(chance, _DEMAND)]
        self.model = 0 if chance() < 0.6 else 1  # which of a campaign's items they are mostly shown
        self.reads_mail = chance() < _READS_MAIL

    def run(self) -> list[Row]:
        sees_ads = self.chance() >= _SEES_NO_AD
        visits = []
        if not sees_ads or self.chance() < _ORGANIC:
            visits = [self.calendar.moment() for _ in range(_heavy(self.chance, _SESSIONS))]
        for at in visits:
            self.plan(at, self.browse)
        if sees_ads:
            most = _ADS_A_DAY * self.calendar.days if visits else _STRANGER  # only those who came are retargeted
            self.plan_ads(_heavy(self.chance, most), min(visits, default=0))
        while self.agenda:
            at, _, step = heappop(self.agenda)
            step(at)
        return self.rows

    def plan(self, at: int, step: Callable[[int], None]) -> None:
        heappush(self.agenda, (at, next(self.order), step))

    def plan_ads(self, left: int, came: int) -> None:
        """Ads come in bursts: an ad on each page read elsewhere, 20 seconds to minutes apart."""
        while left:
            burst = min(left, _heavy(self.chance, _BURST))
            at = self.calendar.moment()
            if at < came:
                at = self.calendar.moment()  # drawn again once: ads follow a visit more often than they precede it
            for _ in range(burst):
                self.plan(at, self.fill_slot)
                at += 20 + int(self.chance() * self.chance() * 900)
            left -= burst

    def note(self, row: Row) -> None:
        if row.at < self.calendar.end:  # what began on the last day may run past its end
            self.rows.append(row)
            self.first.setdefault(f"{row.event} {row.subject}", row.at)

    # -- ads

    def fill_slot(self, at: int) -> None:
        fitting = [ad for ad in _ADS if not ad.after or self.first.get(ad.after, at) < at]
        self.expose(fitting[_pick(self.chance, list(accumulate(ad.weight for ad in fitting)))], at)

    def expose(self, ad: _Campaign, at: int) -> None:
        chance = self.chance
        seen = self.exposures.get(ad.name, 0)
        self.exposures[ad.name] = seen + 1
        self.shown += 1
        creative = ad.creatives[int(chance() * len(ad.creatives))]
        item = ad.items[self.model if chance() < 0.8 else 1 - self.model] if ad.items else ""
        unique = f"{self.name}-{self.shown}"
        labels = (ad.channel, ad.advertiser, creative, item)
        impression = Row(at, self.name, "impression", ad.name, unique, *labels, cost=ad.cost)
        self.note(impression)
        on_screen = ad.channel in ("display", "video")
        if on_screen and chance() < _PIXEL_TWICE:
            self.note(replace(impression, at=at + 1 + int(chance() * 45)))
        if chance() < ad.click / ((1 + seen / _WEAR) * (1 + self.shown / _WEARY)):
            reacts = 2 + int(chance() * (2 * HOUR if ad.channel == "email" else 20))
            self.plan(at + reacts, partial(self.click, impression, ad))
        elif on_screen and chance() < _HIDES * min(seen, 12):  # no ad is hidden at first sight
            self.note(replace(impression, at=at + 2 + int(chance() * 8), event="dismiss", id="", cost=0.0))

    def click(self, impression: Row, ad: _Campaign, at: int) -> None:
        self.clicked = replace(impression, at=at, event="click", id="", cost=0.0)
        self.note(self.clicked)
        self.plan(at + 2, partial(self.browse, landing=ad.landing))

    # -- the shop

    def browse(self, at: int, landing: str = "home") -> None:
        """View some pages, seconds to minutes apart, and do what they lead to."""
        chance = self.chance
        product, category, price, _ = self.wants if chance() < 0.75 else _PRODUCTS[_pick(chance, _DEMAND)]
        pages = [landing]
        if landing != "webinar":
            pages += [f"category/{category}"] if chance() < 0.6 else []
            pages += [f"product/{product}"] * int(chance() * 3)
            pages += ["pricing"] if chance() < 0.12 else []
            pages += ["cart"] if chance() < 0.16 else []
        for page in pages:
            self.note(Row(at, self.name, "visit", page))
            at += 8 + int(chance() * chance() * 300)
        if "webinar" in pages and chance() < 0.35:
            self.note(Row(at, self.name, "signup", "webinar"))
        if "pricing" in pages:
            self.follow_up_pricing(at)
        if "cart" in pages:
            self.check_out(at, product, price)

    def check_out(self, at: int, product: str, price: int) -> None:
        chance = self.chance
        if chance() < 0.6:
            self.note(Row(at, self.name, "visit", "checkout"))
            at += 30 + int(chance() * 240)
            if chance() < 0.7:
                self.buy(at, product, price)
                return
        if self.reads_mail:  # sent even if the visitor has bought in the meantime
            for delay in (HOUR, DAY, 3 * DAY):
                self.plan(at + delay, partial(self.expose, _CART_MAIL))

    def buy(self, at: int, product: str, price: int) -> None:
        value = int(price * (90 + self.chance() * 20)) / 100  # within a tenth of the price
        self.note(Row(at, self.name, "purchase", f"product/{product}", value=value))
        if self.clicked and at - self.clicked.at <= _CREDIT:
            self.note(replace(self.clicked, at=at, event="conversion", value=value))
            self.clicked = None
        if self.chance() < 0.3:
            self.note(Row(at + 20, self.name, "signup", "newsletter"))

    def follow_up_pricing(self, at: int) -> None:
        self.pricing += 1
        if self.pricing == 1 and self.reads_mail:
            for days_later in (1, 3, 8):
                self.plan(self.calendar.morning(at, days_later), partial(self.expose, _INVITE))
        if self.pricing == 2:
            for days_later in (1, 2, 9):
                self.plan(self.calendar.morning(at, days_later), partial(self.expose, _CALL))
