"""A log under a policy: what it would have suppressed, what that saves and risks.

Never imports the command line.
"""

from retarget.replay.run import Frequency, Replay, open_log, replay

__all__ = ["Frequency", "Replay", "open_log", "replay"]
