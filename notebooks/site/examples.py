"""Reads docstrings as the package writes them: its one `Example:` is what the reader of docstrings calls `Examples:`."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """So that examples are shown as code."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Called for each function, class and module that is read."""
        if obj.docstring and not obj.is_alias:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
