"""The made-up shop: its policy, and the demo that runs its traffic through it. `retarget.demo.run()`."""

from retarget.demo.shop import ChannelMoney, Demo, policy, run

__all__ = ["ChannelMoney", "Demo", "policy", "run"]
