"""Extension of griffe that adapts the package's docstrings to the form that griffe parses."""

from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Rename the section `Example:` to `Examples:`, and insert the annotated return type before the text of `Returns:`.

    Griffe reads everything before the first colon of `Returns:` as a type, so the text itself could not contain a colon.
    """

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Adapt the docstring of one function, class or module; griffe calls this method for each of them."""
        if obj.is_alias or not obj.docstring:
            return
        text = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
        if obj.is_function:
            text = text.replace("\nReturns:\n    ", f"\nReturns:\n    {obj.returns}: ")
        obj.docstring.value = text
