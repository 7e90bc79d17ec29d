"""Claims from several threads while servers come and go, and whether caps held in the end.

Every claim carries an id. So it can be checked afterwards, for each that was answered, whether the store still knows
it: what it does not know was lost, and a cap may be exceeded by that much and no more.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from functools import partial
from types import TracebackType

from retarget import Policy
from retarget.errors import OutcomeUnknown, StoreError
from tests.support.driving import PROMPT, Ads
from tests.support.servers import PATIENCE
from tests.support.waiting import insist

CAP = 3
POLICY = Policy.from_text(f'on_store_error = "raise"\n[campaign.a]\ncaps = ["{CAP} per day"]')
"""A denied claim is None, a failed one raises."""

_TOGETHER, _EACH = 40, 8
"""How many visitors are active at a time; how many claims are made before the next one appears."""


class Claiming:
    """Claims that run while the context is open; unexpected errors fail at its end."""

    def __init__(self, ads: Ads, threads: int = 3) -> None:
        self.ads = ads
        self.granted: defaultdict[str, list[str]] = defaultdict(list)
        """By visitor, the ids of the claims that were granted."""
        self.failed: Counter[str] = Counter()
        """How many calls failed, by type of error."""
        self.errors: Counter[str] = Counter()
        """How many calls failed, by message."""
        self.answered = 0
        self.longest = 0.0
        self._unknown: Counter[str] = Counter()
        self._turns = itertools.count()
        self._over = threading.Event()
        self._surprises: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Claiming:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        if kind is None:
            assert not self._surprises, self._surprises[:3]

    def _work(self, number: int) -> None:
        dice = random.Random(number)
        try:
            while not self._over.is_set():
                turn = next(self._turns)
                visitor, id_ = f"v{turn // _EACH + dice.randrange(_TOGETHER)}", f"id-{turn}"
                start = time.monotonic()
                try:
                    claim = self.ads.claim(visitor, ["a"], id=id_)
                    if claim is not None:
                        self.granted[visitor].append(id_)
                    assert self.ads.decide(visitor).degraded is None
                    self.answered += 1
                except StoreError as error:
                    self.failed[type(error).__name__] += 1
                    self.errors[str(error)] += 1
                    self._unknown[visitor] += isinstance(error, OutcomeUnknown)
                self.longest = max(self.longest, (time.monotonic() - start) / 2)
        except BaseException as error:  # noqa: BLE001 - raised at the end
            self._surprises.append(error)

    def check(self) -> int:
        """No cap was exceeded by more than what the store lost, and no call took long. Returns how many were lost."""
        assert self.longest < 2 * PROMPT, f"a call took {self.longest:.2f} seconds"
        lost = 0
        for visitor, ids in self.granted.items():
            forgotten = 0
            for id_ in ids:
                again = insist(partial(self.ads.claim, visitor, ["a"], id=id_))
                forgotten += again is None or not again.repeated
            over = max(0, len(ids) - CAP)
            assert over <= forgotten, f"{visitor} was granted {len(ids)} claims, of which {forgotten} were lost"
            lost += forgotten
        return lost
