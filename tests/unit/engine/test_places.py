"""places.py: what is asked of a timeline, which templates fit a subject, and where events enter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retarget.engine.places import Asked, Patterns, Place, Places
from retarget.engine.plan import as_candidate
from retarget.engine.rules import Rulebook
from retarget.engine.terms import Topic
from retarget.events import Candidate, Subject
from retarget.policy import Policy
from retarget.timelines import ACTIVITY, DAY, IMPRESSION, MIN_KEEP, SESSION_AT_MOST, timeline
from tests.support import strategies

VISIT = "evisit "


def test_the_most_demanding_rule_decides() -> None:
    """The largest number of entries and the longest horizon; a shield once a blocking rule asks."""
    asked = Asked()
    assert (asked.keep, asked.horizon, asked.shield) == (MIN_KEEP, 0, False)
    asked.add(3, 500, shield=False)
    assert (asked.keep, asked.horizon, asked.shield) == (MIN_KEEP, 500, False)
    asked.add(40, 100, shield=True)
    asked.add(1, 1, shield=False)
    assert (asked.keep, asked.horizon, asked.shield) == (40, 500, True)


def test_of_rules_that_block_the_one_that_looks_back_furthest_is_named() -> None:
    """A rule that requires is not, however far it looks back; of two that look back equally far, the first."""
    asked = Asked()
    asked.add(1, 900, shield=False, rule="audience")
    assert not asked.rule
    asked.add(1, 100, shield=True, rule="day")
    asked.add(1, 500, shield=True, rule="week")
    asked.add(1, 500, shield=True, rule="other week")
    asked.add(1, 300, shield=True, rule="between")
    assert (asked.rule, asked.reach, asked.horizon) == ("week", 500, 900)


# ---- templates ----


def test_a_template_is_noted_once() -> None:
    """Asking about it again adds to the same."""
    patterns = Patterns()
    patterns.asked(Topic(VISIT, "product/{item}")).add(20, 60, shield=False)
    patterns.asked(Topic(VISIT, "product/{item}")).add(1, 90, shield=True)
    asked = patterns.asked(Topic(VISIT, "product/{item}"))
    assert (asked.keep, asked.horizon, asked.shield) == (20, 90, True)


def matches(template: str, subject: str, begins: str = VISIT, campaigns: tuple[str, ...] = ()) -> bool:
    """Whether the template of a visit fits the subject of an event, in a policy with these campaigns."""
    patterns = Patterns()
    patterns.asked(Topic(VISIT, template))
    return bool([*patterns.matching(Topic(begins, subject), campaigns)])


def test_a_template_fits_what_fills_it() -> None:
    """Each label stands for at least one character; all other characters are taken literally."""
    assert matches("product/{item}", "product/sku-1")
    assert matches("{a}/{b}", "x/y/z")
    assert matches("product/{item}", "product/two\nlines")
    assert matches("{item}-teaser", "sku-teaser")
    assert matches("a{item}a", "axa")
    assert not matches("a{item}a", "aa")
    assert not matches("aa{item}a", "aa")
    assert not matches("product/{item}", "product/")
    assert not matches("product.{item}", "product/sku-1")
    assert not matches("product/{item}", "my product/sku-1")
    assert not matches("{item}-teaser", "sku-teaser-2")


def test_a_label_that_stands_twice_is_the_same_both_times() -> None:
    """Other subjects cannot be what the template names."""
    assert matches("{item}/of/{item}", "a/of/a")
    assert not matches("{item}/of/{item}", "a/of/b")
    assert matches("{a}/{b}/{a}", "1/2/1")


def test_labels_may_have_names_that_no_pattern_takes() -> None:
    """A hyphen, letters of any script."""
    assert matches("{my-item}/{größe}", "a/b")


def test_a_template_is_of_one_kind_of_timeline() -> None:
    """A template for visits of subjects says nothing of clicks, nor of visits under labels."""
    assert not matches("product/{item}", "product/sku-1", begins="eclick ")
    assert not matches("{campaign}", "item:sku-1", begins="fvisit ")


def test_a_template_of_a_campaign_has_been_filled_in_for_the_policys_own() -> None:
    """It still fits other campaigns' subjects, whoever the subject itself may be."""
    assert matches("{campaign}", "brand")
    assert not matches("{campaign}", "brand", campaigns=("brand",))
    assert matches("product/{item}", "product/x", campaigns=("x", "product/x"))
    assert matches("{campaign}-teaser", "brand-teaser", campaigns=("brand-teaser",))
    assert not matches("{campaign}-teaser", "brand-teaser", campaigns=("brand",))
    assert matches("{campaign}/{item}", "brand/x", campaigns=("brand",))


@given(
    st.lists(st.sampled_from(["a", "b", "/", "{x}", "{y}", "{campaign}", "."]), max_size=6).map("".join),
    st.fixed_dictionaries({"x": st.text("ab/.", min_size=1), "y": st.text("ab/.", min_size=1)}),
)
def test_what_a_template_is_filled_with_fits_it(template: str, labels: dict[str, str]) -> None:
    """Whatever the labels, and whatever else is asked about."""
    patterns = Patterns()
    for other in ("a{x}", "{x}b", "{x}", "/{y}/"):
        patterns.asked(Topic(VISIT, other))
    asked = patterns.asked(Topic(VISIT, template))
    subject = template.replace("{campaign}", "c")
    for kind, value in labels.items():
        subject = subject.replace(f"{{{kind}}}", value)
    if subject:
        assert any(found is asked for found in patterns.matching(Topic(VISIT, subject), ()))


# ---- where events enter ----


def places_of(toml: str) -> Places:
    """The places of a policy, its campaigns' rules noted."""
    return noted(Policy.from_text(toml))


def noted(policy: Policy) -> Places:
    """The places of a policy, its campaigns' rules noted."""
    book = Rulebook(policy)
    places = Places(book)
    for id_ in policy.campaign:
        for rule in book.rules(Candidate(id_)):
            places.ask(rule.formula, rule.text, id_)
    return places


def entered(places: Places, event: str, subject: Subject | None = None) -> set[bytes]:
    """The names of the timelines that an event enters."""
    return {place.field for place in places.of_event(event, subject)}


CONDITIONS = """
    [campaign.shoes]
    labels = { channel = "email" }
    exclude = ["dismiss channel:{channel}", "impression channel:call", "visit product/{item}"]
    audience = ["visit product:notebook"]
"""


def test_events_enter_under_the_labels_that_conditions_ask_about() -> None:
    """The campaign's and the candidate's, each under a name of its own kind."""
    places = places_of(CONDITIONS)
    assert entered(places, "dismiss", "shoes") == {b"fdismiss channel:email"}
    assert entered(places, IMPRESSION, Candidate("shoes", channel="call")) == {b"lchannel:call"}
    assert entered(places, IMPRESSION, "shoes") == set()


def test_a_subject_that_is_written_as_a_label_enters_under_it() -> None:
    """A visit of `product:notebook` is what `visit product:notebook` asks about."""
    places = places_of(CONDITIONS)
    assert entered(places, "visit", "product:notebook") == {b"fvisit product:notebook"}
    assert entered(places, "visit", Candidate("other", product="notebook")) == {b"fvisit product:notebook"}
    assert entered(places, "dismiss", "channel:sms") == {b"fdismiss channel:sms"}


def test_a_campaign_may_be_named_like_a_label() -> None:
    """A condition on its id is about the campaign; the label's events are others."""
    places = places_of('[campaign."slot:top"]\ncaps = ["2 per day"]\nexclude = ["click slot:top", "click slot:{slot}"]')
    assert entered(places, IMPRESSION, "slot:top") == {b"islot:top"}
    assert entered(places, IMPRESSION, Candidate("x", slot="top")) == set()
    assert entered(places, "click", "slot:top") == {b"eclick slot:top", b"fclick slot:top"}
    assert entered(places, "click", Candidate("x", slot="top")) == {b"fclick slot:top"}


def test_label_caps_have_timelines_of_their_own() -> None:
    """Impressions alone enter them, and only of campaigns that count."""
    places = places_of(
        '[caps]\nchannel = ["2 per day"]\n[campaign.mail]\nlabels = { channel = "email" }\n'
        '[campaign.quiet]\nlabels = { channel = "email" }\ncounts = false\n'
        'exclude = ["click channel:{channel}", "impression channel:{channel}"]'
    )
    assert entered(places, IMPRESSION, "mail") == {b"cchannel:email", b"lchannel:email"}
    assert entered(places, IMPRESSION, "quiet") == {b"lchannel:email"}
    assert entered(places, "click", "quiet") == {b"fclick channel:email"}
    assert entered(places, IMPRESSION, "channel:email") == {b"lchannel:email"}


def test_a_cap_on_one_label_is_kept_for_that_label_alone() -> None:
    """Not for others of its kind; even where its value contains braces."""
    places = places_of(
        '[caps]\n"channel:email" = ["2 per day"]\n"item:{x}" = ["1 per day"]\n'
        '[campaign.a]\nlabels = { channel = "email" }\n[campaign.b]\nlabels = { item = "{x}" }'
    )
    assert entered(places, IMPRESSION, Candidate("a", channel="sms")) == set()
    assert entered(places, IMPRESSION, "a") == {b"cchannel:email"}
    assert entered(places, IMPRESSION, "b") == {b"citem:{x}"}


def test_rules_of_the_defaults_are_kept_for_everyone_they_can_be_about() -> None:
    """`X-teaser` may be a campaign's own id and the teaser of a campaign that the policy does not name."""
    places = places_of('[defaults]\nexclude = ["click {campaign}-teaser"]\n[campaign."x-teaser"]\n[campaign.y]')
    assert entered(places, "click", "x-teaser") == {b"eclick x-teaser"}
    assert entered(places, "click", "y-teaser") == {b"eclick y-teaser"}
    assert entered(places, "click", "x-teaser-teaser") == {b"eclick x-teaser-teaser"}
    assert entered(places, "click", "y") == set()


def test_a_shared_rules_anchor_is_kept_for_every_campaign() -> None:
    """The cap is on a label that comes with the candidate: it is no campaign's own rule, whichever are named."""
    places = places_of(
        '[caps]\nitem = ["1 since click {campaign}", "2 since visit {campaign}/{item}"]\n[defaults]\n[campaign.a]'
    )
    assert entered(places, "click", "a") == {b"eclick a"}
    assert entered(places, "click", "stranger") == {b"eclick stranger"}
    assert entered(places, "visit", "a/sku") == {b"evisit a/sku"}


# ---- the place of a name ----


@given(strategies.policies(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_field_has_the_place_where_events_enter_it(data: strategies.Data, chance: st.DataObject) -> None:
    """All but its weight: that is the event's."""
    policy = Policy.model_validate(data)
    places = noted(policy)
    event = chance.draw(strategies.events(policy))
    for place in places.of_event(event.event, None if event.subject is None else as_candidate(event.subject)):
        assert places.of_field(place.field) == place._replace(weight=1)


@pytest.mark.parametrize(
    "field", [b"ix", b"evisit x", b"e", b"", b"\xff", b"@", b"^", b"*", b"lx:y", b"fvisit x:y", b"c"]
)
def test_a_name_that_nobody_asks_about_has_no_place(field: bytes) -> None:
    """Whatever the bytes."""
    assert places_of('[campaign.ad]\ncaps = ["2 per day"]').of_field(field) is None


def test_the_blocking_rule_of_a_name() -> None:
    """A template's or an exact one's, the one that looks back furthest; none where only audiences ask."""
    places = places_of(
        '[defaults]\ncaps = ["3 per day"]\n[campaign.ad]\ncaps = ["2 per week", "9 per lifetime"]\n'
        'audience = ["visit"]\nexclude = ["dismiss {campaign}"]'
    )
    named = [places.blocking(field) for field in (b"iad", b"iother", b"edismiss ad", b"evisit", b"nobody")]
    assert named == ["9 per lifetime", "3 per day", "dismiss {campaign}", None, None]


# ---- activity ----


@pytest.mark.parametrize(
    ("session", "keep"),
    [("30 minutes", 100), ("1 second", 0xFFFE), ("24 hours", 6), ("3 days", 4), ("7 seconds", 24688)],
)
def test_activity_is_kept_for_the_longest_session(session: str, keep: int) -> None:
    """A day and the pause, as many intervals as fit into it, starts and ends; a shield."""
    places = places_of(f'session = "{session}"\n[campaign.ad]\ncaps = ["2 per session"]')
    place = places.of_activity()
    assert place is not None
    assert (place.field, place.weight, place.keep, place.horizon) == (ACTIVITY, 1, keep, SESSION_AT_MOST + places.pause)
    assert place.keep % 2 == 0
    assert timeline.is_shield(place.head.to_bytes(2))
    assert timeline.seconds_of(place.head) >= place.horizon
    assert places.of_field(ACTIVITY) == place


def test_without_sessions_activity_has_no_place() -> None:
    """Nobody asks when the visitor was active."""
    assert places_of('[campaign.ad]\ncaps = ["2 per day"]').of_activity() is None


def test_a_place_says_what_the_policy_asks() -> None:
    """Entries, head and horizon."""
    (place,) = places_of('[campaign.ad]\ncaps = ["20 per day"]').of_event(IMPRESSION, "ad")
    assert place == Place(b"iad", 1, 20, timeline.head(DAY, shield=True), DAY)
