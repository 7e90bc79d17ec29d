"""A cluster of fake servers, each with the replies that a test gives it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.support import servers
from tests.support.servers import Fake

_USUAL = {b"HGETALL": b"*0\r\n", b"EVALSHA": b":1\r\n", b"EVAL": b":1\r\n", b"UNLINK": b":1\r\n", b"ASKING": b"+OK\r\n"}


@dataclass
class Member:
    """One server: `replies` are its next replies to a command, after which it gives the usual ones.

    None hangs up, and an empty reply is silence.
    """

    replies: dict[bytes, list[bytes | None]] = field(default_factory=dict)
    owner: Member | None = None
    """Whom its map names as the owner of every slot; itself where None."""
    fake: Fake = field(default_factory=lambda: Fake(0))

    @property
    def port(self) -> int:
        """Its TCP port."""
        return self.fake.port

    def take_received(self) -> list[str]:
        """The names of the commands it was sent since the last look, except those for the map."""
        names = [command[0].decode() for command in self.fake.commands if command[0] != b"CLUSTER"]
        self.fake.commands.clear()
        return names

    def moved(self, to: Member) -> bytes:
        """The redirection to another one, for every slot."""
        return b"-MOVED 1 127.0.0.1:%d\r\n" % to.port

    def ask(self, to: Member) -> bytes:
        """The redirection of a single command."""
        return b"-ASK 1 127.0.0.1:%d\r\n" % to.port

    def answer(self, command: list[bytes]) -> bytes | None:
        """The reply to a command."""
        if replies := self.replies.get(command[0]):
            return replies.pop(0)
        if command[0] == b"CLUSTER":
            owner = self.owner or self
            return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % owner.port
        return _USUAL[command[0]]


@contextmanager
def cluster(count: int) -> Iterator[list[Member]]:
    """That many servers, the first of which every map names as the owner of all slots."""
    with ExitStack() as stack:
        members = [Member() for _ in range(count)]
        for member in members:
            member.fake = stack.enter_context(servers.fake(member.answer))
            member.owner = members[0]
        yield members


def url(*members: Member) -> str:
    """The URL with these startup nodes."""
    return "redis+cluster://" + ",".join(f"127.0.0.1:{member.port}" for member in members)
