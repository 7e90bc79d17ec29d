"""A visitor's key: the one place where their id becomes bytes.

Rules:
- Without a pepper the key contains the id as given. With one, it contains a keyed hash of 128 bits instead (BLAKE2b,
  RFC 7693), and the id never leaves the process: not in the store, a token, a log or an error.
- The key carries the version of the data format and, with a pepper, the pepper's version: peppers can be rotated.
- A prefix contains neither `~` nor `!`, which end it in a key: so the keys of two prefixes never meet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeAlias

from retarget.calls.inputs import key_bytes
from retarget.errors import ConfigError, InputError
from retarget.timelines import keys

VISITOR_BYTES = 510
"""The longest visitor id, in UTF-8 bytes."""

PEPPER_BYTES = 16
"""The shortest pepper, in bytes."""

Pepper: TypeAlias = str | bytes | Mapping[int, str | bytes | None]
"""One pepper, or several by version; the highest is current. Version 0 is None: ids that were stored in clear."""

_HASH_BYTES = 16
_NAME = re.compile(f"{keys.HASHED}[1-9][0-9]{{0,5}}{keys.CLEAR}.{{{_HASH_BYTES}}}".encode(), re.DOTALL)


class Visitors:
    """Derives keys from ids. Raises ConfigError for a prefix or pepper that cannot be used."""

    def __init__(self, prefix: str, pepper: Pepper | None) -> None:
        self._prefix = _valid_prefix(prefix)
        self._head = f"{self._prefix}{keys.FORMAT}".encode()
        self._peppers = _peppers(pepper)
        self.key = self._clear_key if max(self._peppers, default=0) == 0 else self._hashed_key
        """The key of a visitor. Raises InputError for an invalid id."""

    def _clear_key(self, visitor: str) -> bytes:
        _valid_id(visitor)
        return keys.key(self._prefix, visitor)

    def _hashed_key(self, visitor: str) -> bytes:
        return self._hashed(visitor, max(self._peppers))

    def all_keys(self, visitor: str) -> list[bytes]:
        """The visitor's keys under all peppers, the oldest first; the last is the current one. Raises InputError."""
        return [*(self._hashed(visitor, version) for version in sorted(self._peppers)[:-1]), self.key(visitor)]

    def _hashed(self, visitor: str, version: int) -> bytes:
        if version == 0:
            return self._clear_key(visitor)
        digest = blake2b(_valid_id(visitor), digest_size=_HASH_BYTES, key=self._peppers[version]).digest()
        return keys.hashed_key(self._prefix, version, digest)

    def name(self, key: bytes) -> str | bytes:
        """How a token names a key: by the id, or by the bytes that stand for it."""
        rest = key[len(self._head) :]
        return rest[1:].decode() if rest.startswith(keys.CLEAR.encode()) else rest

    def named(self, name: str | bytes) -> tuple[bytes, ...]:
        """The keys under which to look for what a token names; the last is the one to count under. Raises InputError.

        A token in clear may be older than the pepper. Its visitor's clear key is asked only if the retargeter was told
        that ids were once stored in clear.
        """
        if isinstance(name, str):
            clear = (self._clear_key(name),) if 0 in self._peppers else ()
            return tuple(dict.fromkeys((*clear, self.key(name))))
        if not _NAME.fullmatch(name):
            raise InputError("these bytes do not stand for a visitor")
        return (self._head + name,)


def _valid_prefix(prefix: object) -> str:
    try:
        valid = str(prefix.encode().decode()) if isinstance(prefix, str) else None
    except UnicodeError:
        valid = None
    if valid is None:
        raise ConfigError(f"prefix={prefix!r:.80}: give a string such as 'rt:'")
    if keys.CLEAR in valid or keys.HASHED in valid:
        raise ConfigError(f"prefix={prefix!r:.80}: ~ and ! end the prefix in a key; give a string without them: 'rt:'")
    return valid


def _valid_id(visitor: str) -> bytes:
    """The id's bytes. Raises InputError, without the id in it."""
    if not isinstance(visitor, str):
        raise InputError(f"a visitor's id must be a string, or None if unknown; not {type(visitor).__name__}")
    try:
        encoded = visitor.encode()
    except UnicodeEncodeError:  # it contains the id, so ours must not have it as its context
        encoded = None
    if encoded is None:
        raise InputError("this visitor's id is not valid Unicode")
    if not 1 <= len(encoded) <= VISITOR_BYTES:
        raise InputError(f"a visitor's id has 1 to {VISITOR_BYTES} bytes; this one has {len(encoded)}")
    return encoded


def _peppers(pepper: object) -> dict[int, bytes]:
    if pepper is None:
        return {}
    given = dict(pepper) if isinstance(pepper, Mapping) else {1: pepper}
    if not given or not all(type(version) is int and 0 <= version <= 999_999 for version in given):
        raise ConfigError("pepper: give one pepper, or several by version, such as {1: old, 2: new}")
    if given.get(0) is not None:
        raise ConfigError("pepper: version 0 is None, for ids that were stored in clear; peppers begin with 1")
    return {version: _key(value) if version else b"" for version, value in given.items()}


def _key(pepper: object) -> bytes:
    """The pepper as a BLAKE2b key, which has at most 64 bytes."""
    data = key_bytes(pepper, "pepper", PEPPER_BYTES)
    return data if len(data) <= 64 else blake2b(data).digest()
