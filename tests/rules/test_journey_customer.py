"""Journeys under docs/policies/customer.toml: visitors, and weeks of their lives."""

from __future__ import annotations

from tests.support.life import Life


def test_customer_before_and_after_the_purchase() -> None:
    """Ida is advertised to, buys, and is no longer advertised what she bought; mails on the order always come."""
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
    assert ida.patience() == "segment customers: 10 of 10 per 7 days"  # a delivery is a mail, too
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
    ida.may_not_see("sleeve", "cap", "3 per calendar week", "Sun 2026-02-22 00:00:00")  # weeks begin on Sunday
    ida.did("purchase", "product/sleeve")
    ida.may_not_see("sleeve", "exclude", "purchase product/sleeve", None)


def test_customer_upset() -> None:
    """A complaint comes before being a customer: a month of the tighter threshold, then the old one."""
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
    kim.may_not_see("win-back", "cap", "3 since purchase", None)  # when it is forgotten, so is the purchase
    kim.at("Mon 2027-01-11 12:00")  # more than a year after the purchase Kim is no customer any more
    assert kim.patience() == "annoyance: 0 of 4 per 7 days"
    kim.at("Mon 2028-01-10 12:00")  # two years after it, it is forgotten; a notebook may be of interest again
    kim.may_see("invoice", "delivery", "try-notebook")
    kim.may_not_see("win-back", "audience", "purchase", None)


def test_customer_bought_and_left_another_cart() -> None:
    """Lea buys, and later leaves another cart: two reminders for each, two days apart, until she buys or hides them."""
    lea = Life("customer.toml")
    lea.at("Mon 2026-03-02 10:00")
    lea.did("add", "cart")
    lea.may_see("invoice", "delivery", "try-notebook", "open-cart")  # no order yet: everything counts
    lea.at("Mon 2026-03-02 11:00")
    lea.is_shown("open-cart")
    lea.may_not_see("open-cart", "annoyance", "annoyance: 4 per 7 days", "Mon 2026-03-09 11:00:01")
    lea.at("Mon 2026-03-02 12:00")
    lea.did("purchase", "product/notebook")
    lea.may_see("invoice", "delivery", "sleeve")
    lea.may_not_see("open-cart", "audience", "add cart since purchase", None)

    lea.at("Wed 2026-03-11 10:00")
    lea.did("add", "cart")
    lea.may_see("invoice", "delivery", "sleeve", "open-cart")
    lea.at("Wed 2026-03-11 18:00")
    lea.is_shown("open-cart")
    lea.may_not_see("open-cart", "gap", "gap 2 days", "Fri 2026-03-13 18:00:01")
    lea.at("Sat 2026-03-14 09:00")
    lea.is_shown("open-cart")
    lea.at("Wed 2026-03-18 09:00")
    lea.may_not_see("open-cart", "cap", "2 since add cart", None)
    lea.did("add", "cart")
    lea.may_see("invoice", "delivery", "sleeve", "open-cart")
    lea.did("dismiss", "open-cart")
    lea.may_see("invoice", "delivery", "sleeve")
    lea.may_not_see("open-cart", "exclude", "dismiss {campaign}", None)


def test_customer_won_back_twice() -> None:
    """Max is won back, buys, and goes again: another three mails, since that purchase."""
    maxim = Life("customer.toml")
    maxim.at("Fri 2026-01-02 10:00")
    maxim.did("purchase", "product/notebook")
    for day in ("Thu 2026-07-02", "Mon 2026-08-03", "Wed 2026-09-02"):
        maxim.at(f"{day} 12:00")
        maxim.is_shown("win-back")
    maxim.at("Fri 2026-10-02 12:00")
    maxim.may_not_see("win-back", "cap", "3 since purchase", None)
    maxim.did("purchase", "product/sleeve")
    maxim.may_not_see("win-back", "exclude", "purchase within 180 days", "Wed 2027-03-31 12:00:01")
    maxim.at("Thu 2027-04-01 12:00")
    maxim.is_shown("win-back")
    maxim.may_not_see("win-back", "cap", "1 per calendar month", "Sat 2027-05-01 00:00:00")
