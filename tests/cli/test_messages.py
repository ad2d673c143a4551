"""Test what commands print on stderr."""

import sys
import threading
import warnings

from jaxgmm.cli.messages import print_error, print_progress, print_remark, warnings_to_stderr


def test_errors_are_one_line(capsys):
    assert print_error("two\n  lines", 2) == 2
    assert capsys.readouterr().err == "jaxgmm: two lines\n"


def test_remarks_are_one_line(capsys):
    print_remark("labels are\nnot identified.")
    assert capsys.readouterr().err == "jaxgmm: labels are not identified.\n"


def test_progress_is_for_terminals(capsys, monkeypatch):
    print_progress("fitting")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    print_progress("fitting")
    assert capsys.readouterr().err == "jaxgmm: fitting ...\n"


def test_warnings_are_lines_each_time(capsys):
    with warnings_to_stderr():
        for _ in range(2):
            warnings.warn("EM did not\nconverge.", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == 2 * "jaxgmm: EM did not converge.\n"


def test_warnings_of_another_thread_are_dropped(capsys):
    with warnings_to_stderr():
        thread = threading.Thread(target=warnings.warn, args=("rehearsed", RuntimeWarning))
        thread.start()
        thread.join()
    assert capsys.readouterr().err == ""
