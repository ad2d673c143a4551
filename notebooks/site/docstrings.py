"""Reads docstrings as the package writes them, for the reader of docstrings that the site uses."""

from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Its one `Example:` is code, and a colon in what a function returns does not end a type: the annotation says the type."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Called for each function, class and module that is read."""
        if obj.is_alias or not obj.docstring:
            return
        text = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
        if obj.is_function:
            text = text.replace("\nReturns:\n    ", f"\nReturns:\n    {obj.returns}: ")
        obj.docstring.value = text
