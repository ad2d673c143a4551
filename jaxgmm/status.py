"""Define status codes. They are integers, so that arrays can hold them inside jit and vmap. Each code has a sentence."""

from __future__ import annotations

from enum import IntEnum
from typing import SupportsInt


class StatusEnum(IntEnum):
    """Base class of status codes. A member is defined by `NAME = number, sentence`.

    The sentence says what happened and what the likely causes are. The part after its last semicolon says what to try.

    Example:
        >>> class Weather(StatusEnum):
        ...     RAIN = 0, "It rains; take an umbrella."
        >>> Weather(0).sentence, Weather(0).cause, Weather.name_of(5)
        ('It rains; take an umbrella.', 'It rains', '5')
    """

    sentence: str

    def __new__(cls, value: int, sentence: str = "") -> StatusEnum:
        """Create a member. The sentence has a default only so that type checkers accept a look-up such as Status(0)."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    @property
    def cause(self) -> str:
        """Return the sentence up to its last semicolon. This part says what happened and why; the rest gives advice."""
        return self.sentence.rpartition(";")[0] or self.sentence.removesuffix(".")

    @classmethod
    def name_of(cls, code: SupportsInt) -> str:
        """Return the name of a code; if the code has no name, return the code as text instead of raising an error."""
        try:
            return cls(int(code)).name
        except ValueError:
            return str(code)
