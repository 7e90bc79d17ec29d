"""recording.py: the write that counts an event, what is not worth a write, and what is reported."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from retarget import Candidate, Event, InputError, Policy
from retarget.calls.clock import Clock
from retarget.calls.recording import event_write, was_counted
from retarget.calls.visitors import Visitors
from retarget.engine import Plan
from retarget.timelines import DENIED, FULL, LATE, NO_OUTCOME, Enter, Write

NOW = 1_795_600_000
DAY = 86_400
PLAN = Plan(
    Policy.from_text(
        '[caps]\nitem = ["1 per day"]\n[campaign.a]\ncaps = ["2 per day"]\nexclude = ["purchase within 7 days"]'
    )
)
VISITORS = Visitors("rt:", None)


@pytest.fixture
def write(caplog: pytest.LogCaptureFixture) -> Callable[[Event], Write | bool]:
    """The write of an event at NOW, with a clock of the caller's own."""
    caplog.set_level(logging.DEBUG, "retarget")
    clock = Clock(lambda: NOW, own=True)
    return lambda event: event_write(PLAN, clock, VISITORS, event)


def test_an_event_enters_what_the_policy_asks_about(write: Callable[[Event], Write | bool]) -> None:
    """One alternative without guards: the campaign's timeline and its label's, at the event's own second."""
    made = write(Event("v", "impression", Candidate("a", item="x"), NOW - 5, "imp-1"))
    assert isinstance(made, Write)
    assert (made.key, made.now, len(made.id), made.hold) == (b"rt:2~v", NOW, 5, b"")
    (choice,) = made.alternatives
    assert choice.guards == ()
    assert choice.outcome != NO_OUTCOME
    entered = [change for change in choice.changes if isinstance(change, Enter)]
    assert len(entered) == len(choice.changes) == 2
    assert {change.at for change in entered} == {NOW - 5}


def test_what_an_event_enters_is_computed_once_a_second(write: Callable[[Event], Write | bool]) -> None:
    """The same alternatives for all visitors of that second."""
    one, other = write(Event("v", "purchase")), write(Event("w", "purchase"))
    assert isinstance(one, Write)
    assert isinstance(other, Write)
    assert one.alternatives is other.alternatives
    assert one.alternatives[0].outcome == NO_OUTCOME


def test_what_nobody_asks_about_is_not_written(write: Callable[[Event], Write | bool]) -> None:
    """True without a write; with an id there is one, so that a repeat is known."""
    assert write(Event("v", "scroll")) is True
    assert isinstance(write(Event("v", "scroll", id="x")), Write)


def test_without_a_visitor_nothing_is_written(write: Callable[[Event], Write | bool]) -> None:
    """False; but the event is validated all the same."""
    assert write(Event(None, "purchase")) is False
    with pytest.raises(InputError):
        write(Event(None, "no event!"))


def test_an_event_too_old_for_every_rule_is_reported(
    write: Callable[[Event], Write | bool], caplog: pytest.LogCaptureFixture
) -> None:
    """False, and a warning with its time; one that a single rule still asks about is written."""
    assert write(Event("v", "purchase", at=NOW - 8 * DAY)) is False
    (message,) = caplog.messages
    assert message.startswith("record: an event of 2026-11-17T")
    assert "dropped" in message
    assert "clock=" in message
    assert isinstance(write(Event("v", "purchase", at=NOW - 6 * DAY)), Write)


@pytest.mark.parametrize(
    ("answer", "counted", "expected"),
    [
        (1, True, None),
        (2, True, None),
        (DENIED, False, None),
        (b"abc", False, None),
        (LATE, False, "older than any rule asks about"),
        (FULL, False, "timelines are full"),
    ],
)
def test_what_an_answer_means(
    caplog: pytest.LogCaptureFixture, answer: int | bytes, *, counted: bool, expected: str | None
) -> None:
    """True where an alternative was applied; an event that was dropped is reported, a repeated id is not."""
    caplog.set_level(logging.DEBUG, "retarget")
    assert was_counted(answer) is counted
    assert len(caplog.messages) == (expected is not None)
    assert expected is None or expected in caplog.text
