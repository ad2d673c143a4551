"""What README says is there and runs. Its two commands as a whole are run by .ci/run."""

import json
import re
from pathlib import Path

from jaxgmm.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = ("pip install . && jaxgmm compare faithful -k 2", 'pip install -e ".[test]" && python -m pytest')


def test_python_blocks_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 3
    names = {}
    for block in blocks:
        exec(block, names)
    out = capsys.readouterr().out
    assert "Verdict: agree." in out and "Fit stacked (100,)" in out


def test_the_first_command(capsys, tmp_path):
    """The README's command, but for the starts; its shapes are those of the README's first block, so they compile once."""
    arguments = ["compare", "faithful", "-k", "2", "--restarts", "2", "--out", str(tmp_path)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "variance waiting" in captured.out and "Verdict: agree." in captured.out
    assert max(map(len, captured.out.splitlines()[:-1])) <= 100
    picture, record = tmp_path / "faithful-compare.png", json.loads((tmp_path / "faithful-compare.json").read_text())
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(record["comparison"]["parameters"]) == 12
    sampler = record["comparison"]["samplers"]["nuts"]
    assert sampler["divergences"] == 0 and sampler["r_hat_max"] < 1.01 and sampler["ess_min"] > 400
    capsys.readouterr()
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert "faithful-compare.png and " in line and "--force" in line
    assert main(["sample", str(tmp_path / "faithful-compare.json"), "-n", "3"]) == 0


def test_commands_are_there_and_in_ci():
    ci = (ROOT / ".ci" / "run").read_text()
    for command in COMMANDS:
        assert f"    {command}\n" in README
        assert f"\n{command} || exit" in ci


def test_links_and_files_exist():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "0.1.0" in (ROOT / "CHANGELOG.md").read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
