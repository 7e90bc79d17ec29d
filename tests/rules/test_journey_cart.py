"""Journeys under docs/policies/cart.toml: visitors, and weeks of their lives."""

from __future__ import annotations

from tests.support.life import Life


def test_cart_the_card_was_declined() -> None:
    """Greta could not pay: help comes, no reminder, and after the call all other campaigns pause."""
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
    # A mail would be three points, and Greta has been called: the second help waits too, until it is of no use.
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
    gustav.at("Mon 2026-12-28 10:01")
    gustav.did("click", "payment-help")
    gustav.may_see("sale")
    gustav.may_not_see("payment-help", "exclude", "click payment-help since decline payment", None)
    gustav.at("Tue 2026-12-29 10:01")
    gustav.did("decline", "payment")  # it did not help: that click was about the payment before
    gustav.may_see("payment-help", "sale")
    gustav.may_not_see("payment-call", "cap", "1 per 30 days", "Wed 2026-12-30 14:00:00")


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


def test_cart_bought_and_left_another() -> None:
    """Ines buys, and two days later leaves another cart: she is reminded of that one, though she has just bought."""
    ines = Life("cart.toml")
    ines.at("Mon 2026-11-09 10:00")
    ines.may_not_see("cart-reminder", "audience", "add cart since purchase", None)
    ines.did("add", "cart")
    ines.may_see("cart-reminder", "cart-banner", "sale")
    ines.is_shown("cart-reminder")
    ines.at("Mon 2026-11-09 18:00")
    ines.did("purchase")
    ines.may_see("sale")
    ines.may_not_see("cart-reminder", "audience", "add cart since purchase", None)
    ines.may_not_see("cart-banner", "audience", "add cart since purchase", None)

    ines.at("Wed 2026-11-11 12:00")
    ines.did("add", "cart")
    ines.may_see("cart-reminder", "cart-banner", "sale")
    ines.is_shown("cart-reminder", "cart-banner")
    ines.at("Thu 2026-11-12 13:00")
    ines.may_see("cart-banner", "sale")
    ines.may_not_see("cart-reminder", "cap", "2 per 7 days", "Mon 2026-11-16 10:00:01")
    ines.at("Mon 2026-11-16 10:00:01")
    ines.may_see("cart-reminder", "cart-banner", "sale")

    ines.at("Mon 2026-11-16 20:00")
    ines.did("decline", "payment")
    ines.at("Mon 2026-11-16 20:05")
    ines.did("decline", "payment")
    ines.may_see("payment-help", "sale")
    ines.at("Mon 2026-11-16 20:10")
    ines.did("purchase")  # the third card worked: neither help nor a call
    ines.may_see("sale")
    ines.may_not_see("payment-help", "audience", "decline payment since purchase", None)
    ines.may_not_see("payment-call", "audience", "2 decline payment since purchase", None)

    ines.at("Tue 2026-12-01 09:00")  # weeks later
    ines.did("add", "cart")
    ines.may_see("cart-reminder", "cart-banner", "sale")
    ines.at("Tue 2026-12-08 09:00:01")
    ines.may_see("sale")
    ines.may_not_see("cart-reminder", "audience", "add cart within 7 days", None)


def test_cart_eight_banners_each() -> None:
    """Jonas ignores eight banners, and sees no more of this cart; putting something else in it begins anew."""
    jonas = Life("cart.toml")
    jonas.at("Sun 2026-11-08 20:00")
    jonas.did("add", "cart")
    for moment in ("Sun 2026-11-08 20:30", "Sun 2026-11-08 21:30", "Mon 2026-11-09 20:31", "Mon 2026-11-09 21:31"):
        jonas.at(moment)
        jonas.is_shown("cart-banner", "cart-banner")
    assert jonas.counted("cart-banner") == (8, 8)
    jonas.at("Tue 2026-11-10 21:32")
    jonas.may_see("sale")
    jonas.may_not_see("cart-banner", "cap", "8 since add cart", None)
    jonas.did("add", "cart")
    jonas.may_see("cart-banner", "sale")
    jonas.is_shown("cart-banner")
