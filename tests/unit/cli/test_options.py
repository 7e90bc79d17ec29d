"""options.py: from options to how a log is read, and to a retargeter."""

from __future__ import annotations

import pytest

from retarget.cli.options import log_options, retargeter
from retarget.errors import ConfigError, InputError
from retarget.policy import Policy


def read(
    maps: list[str] | None = None, *, columns: str | None = None, delimiter: str | None = None
) -> dict[str, object]:
    """The options of a log, as a mapping."""
    options = log_options(["a.csv", "b.csv"], maps, "UTC", None, columns, delimiter, "'", "c")
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


def test_options_of_a_log() -> None:
    """Names are stripped, a backslash and a `t` are a tab, and an expression may contain equals signs."""
    found = read(["visitor = user_id", "click=status = 'ok'"], columns="at, visitor", delimiter="\\t")
    assert found["mapping"] == {"visitor": "user_id", "click": "status = 'ok'"}
    assert found["columns"] == ("at", "visitor")
    assert (found["delimiter"], found["quote"], found["campaign"]) == ("\t", "'", "c")
    assert found["paths"] == ("a.csv", "b.csv")


def test_defaults_of_a_log() -> None:
    """Without options, the log is read as it is."""
    found = read()
    assert (found["mapping"], found["columns"], found["delimiter"]) == ({}, None, None)


@pytest.mark.parametrize("text", ["visitor", "=user_id", "visitor=", " = "])
def test_half_a_map_is_refused(text: str) -> None:
    """The message shows a valid one."""
    with pytest.raises(InputError, match="write NAME=COLUMN or NAME=SQL, for example --map visitor=user_id"):
        read([text])


def test_a_name_is_mapped_once() -> None:
    """The second mapping is refused; the message names the first."""
    with pytest.raises(InputError, match="--map a=c: a is already mapped to b"):
        read(["a=b", "a=c"])


def test_a_retargeter_has_an_empty_policy_unless_one_is_given() -> None:
    """Exporting and forgetting visitors needs no policy."""
    policy = Policy.from_text("[campaign.c]\ncaps = ['1 per day']")
    with retargeter("memory://", "rt:", None) as plain, retargeter("memory://", "rt:", None, policy) as own:
        assert dict(plain.policy.campaign) == {}
        assert own.policy is policy


def test_a_store_that_cannot_be_used_is_refused() -> None:
    """With the library's own error."""
    with pytest.raises(ConfigError, match="URL"):
        retargeter("http://localhost", "rt:", None)
