"""Statuses: whole numbers, so that arrays hold them inside jit and vmap, that are sentences where a person reads them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class StatusEnum(IntEnum):
    """Members are written `NAME = number, sentence`; `.sentence` is what happened, likely causes, what to try."""

    sentence: str

    def __new__(cls, value: int, sentence: str) -> StatusEnum:
        member = int.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    @classmethod
    def name_of(cls, code: Any) -> str:
        """The member's name, or the code itself where it is none: for messages, which must not fail."""
        try:
            return cls(int(code)).name
        except ValueError:
            return str(code)
