"""Forgetting what is stored under one key, so that nothing of it comes back.

Rules:
- A merge may be under way: the parcel that is noted here is made not due first, so that nobody delivers it later.
- Everything is removed by one write, and only if no other parcel was noted meanwhile.
- Forgetting is the cure for what is corrupt: that is deleted, whatever it is.
"""

from __future__ import annotations

from retarget.calls.merge import ROUNDS, Applying, apply, checked
from retarget.calls.parcels import Parcel, is_noted, no_parcel, noted, withdraw
from retarget.calls.requests import Delete, Read, Steps
from retarget.errors import NotExecuted, StoreError
from retarget.timelines import DENIED, Alternative, Clear, State, Write


def forget_key(key: bytes, now: int, applying: Applying = apply) -> Steps[bool]:
    """Remove everything under this key; True if there was anything. Raises StoreError."""
    for _ in range(ROUNDS):
        try:
            state = yield from Read(key)
        except StoreError as error:
            if "WRONGTYPE" not in str(error):  # a server that fails now may yet have a parcel noted here
                raise
            return (yield from Delete(key))
        if not state:
            return False
        parcel, is_sound = _noted(key, state)
        if parcel is not None:
            yield from applying(withdraw(parcel, now))
        if not is_sound:
            return (yield from Delete(key))
        guards = (no_parcel(),) if parcel is None else tuple(is_noted(parcel.number))
        if (yield from applying(Write(key, now, b"", (Alternative(guards, (Clear(),), 1),)))) != DENIED:
            return True
    raise NotExecuted(f"merges of this visitor began {ROUNDS} times meanwhile: not forgotten")


def _noted(key: bytes, state: State) -> tuple[Parcel | None, bool]:
    """The parcel noted here, if any, and whether everything can be read."""
    try:
        parcel = noted(key, state)
    except StoreError:
        return None, False
    try:
        checked(state)
    except StoreError:
        return parcel, False
    return parcel, True
