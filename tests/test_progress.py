"""Test when a progress bar is shown."""

import sys

import pytest

from jaxgmm.progress import progress_bar


@pytest.mark.parametrize(("wanted", "terminal", "shown"), [(True, False, True), (False, True, False), (None, True, True)])
def test_shown_if_wanted_or_on_a_terminal(monkeypatch, wanted, terminal, shown):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress_bar(3, " fits", wanted) as bar:
        bar.update(3)
        assert bar.disable is not shown


def test_not_shown_without_a_terminal(capsys):
    with progress_bar(3, " fits", None) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
