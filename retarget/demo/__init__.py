"""A synthetic shop: its traffic, its policy, and the demo that replays one under the other: `retarget.demo.run()`.

Imported by the command line only.
"""

from retarget.demo.shop import DAYS, VISITORS, ChannelMoney, Demo, policy, run

__all__ = ["DAYS", "VISITORS", "ChannelMoney", "Demo", "policy", "run"]
