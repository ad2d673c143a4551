"""Integer status codes, which arrays can hold inside jit and vmap, each with a sentence for people to read."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class StatusEnum(IntEnum):
    """A base class of status codes, whose members are written `NAME = number, sentence`.

    The sentence says what happened, what likely causes are, and, after its last semicolon, what to try.

    Example:
        >>> class Weather(StatusEnum):
        ...     RAIN = 0, "It rains; take an umbrella."
        >>> Weather(0).sentence, Weather(0).cause, Weather.name_of(5)
        ('It rains; take an umbrella.', 'It rains', '5')
    """

    sentence: str

    def __new__(cls, value: int, sentence: str = "") -> StatusEnum:
        """Make a member; the sentence is optional only so that type checkers accept a look-up like Status(0)."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    @property
    def cause(self) -> str:
        """The sentence up to its last semicolon: what happened and why, without what to try."""
        return self.sentence.rpartition(";")[0] or self.sentence.removesuffix(".")

    @classmethod
    def name_of(cls, code: Any) -> str:
        """Return the name of a code, or the code itself if it has no name, because messages must not fail."""
        try:
            return cls(int(code)).name
        except ValueError:
            return str(code)
