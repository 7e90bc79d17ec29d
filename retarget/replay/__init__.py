"""Replaying a log under a policy: what it would have suppressed, what that saves and risks.

Never imports the command line.
"""

from retarget.replay.figures import Frequency, Replay
from retarget.replay.full import Fullness, FullRule
from retarget.replay.run import open_log, replay

__all__ = ["Frequency", "FullRule", "Fullness", "Replay", "open_log", "replay"]
