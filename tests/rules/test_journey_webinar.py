"""Journeys under docs/policies/webinar.toml: visitors, and weeks of their lives."""

from __future__ import annotations

from tests.support.life import Life

INVITE = "2 visit pricing within 14 days or download handbook within 30 days"


def test_webinar_she_came() -> None:
    """Anna reads the prices, is invited, sees the film, signs up, comes: and hears of the price, not the recording."""
    anna = Life("webinar.toml")

    anna.at("Mon 2026-11-02 20:10")
    anna.did("visit", "pricing")
    anna.may_see()
    anna.may_not_see("webinar-invite", "audience", INVITE, None)
    anna.may_not_see("webinar-video", "audience", "click webinar-invite within 14 days", None)

    anna.at("Tue 2026-11-03 12:30")  # again, so it is serious; but mails go out in the morning
    anna.did("visit", "pricing")
    anna.may_not_see("webinar-invite", "hours", "hours 09:00-11:00", "Wed 2026-11-04 09:00:00")

    anna.at("Wed 2026-11-04 09:00")
    anna.may_see("webinar-invite")
    anna.is_shown("webinar-invite")
    anna.may_see()  # the gap is over on Saturday, the next day for mails is Tuesday
    anna.may_not_see("webinar-invite", "gap", "gap 3 days", "Tue 2026-11-10 09:00:00")
    assert anna.patience() == "annoyance: 3 of 10 per 7 days"

    anna.at("Wed 2026-11-04 19:40")  # opened in the evening, and nothing else
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
    anna.may_see()  # signed up: no invitation and no film, ever
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
    """Ben downloads the handbook, signs up from the first mail, does not come, and gets the link to the recording."""
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

    ben.at("Fri 2026-11-20 00:00")  # Ben was not there
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
    carl.may_see()  # on Tuesday morning the visits will be a fortnight old, less an hour and a half
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
