"""Test that the files that README names exist, and that its code and that of the site runs. .ci/run runs its two commands."""

import json
import re
from pathlib import Path

import pytest
from documented_calls import check_calls

import jaxgmm
from jaxgmm.cli import main
from jaxgmm.io.read_table import read_table

from helpers import fake_method, slow_unless

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "notebooks" / "site" / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
NUMBER = re.compile(r"\d+(?:\.\d+)?")
COMMANDS = ("pip install . && jaxgmm compare faithful -k 2", 'pip install -e ".[test]" && python -m pytest')


def test_python_blocks_run(capsys):
    """Each block runs on its own."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 4
    for block in blocks:
        exec(block, {})
    out = capsys.readouterr().out
    assert "Verdict: agree." in out
    assert "Fit stacked (100,)" in out


WITH_CODE = [page for page in PAGES if "```python" in PAGES[page]]
# pages that use few programs beside those of README's blocks
QUICK = ("from_mclust.md", "from_numpyro.md", "from_scikit_learn.md", "numerics.md", "api/interoperability.md")


@pytest.mark.parametrize("page", WITH_CODE)
def test_calls_on_the_site_fit_the_functions(page):
    """Each call of a function of the package has arguments that the function takes; the weekly run also runs the code."""
    assert sum(check_calls(code) for code in re.findall(r"^```python\n(.*?)^```$", PAGES[page], re.M | re.S))


@pytest.mark.parametrize("page", slow_unless(WITH_CODE, QUICK))
def test_code_of_the_site_runs(page, capsys, tmp_path, monkeypatch):
    """The Python blocks of a page run in order, and an output shown below a block matches what it prints, up to 1 %."""
    monkeypatch.chdir(tmp_path)  # some pages write files
    names = {}
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.M | re.S):
        assert language in ("python", "text"), f"{page}: a block in {language!r}"
        if language == "python":
            exec(code, names)
            printed = capsys.readouterr().out
        elif code.startswith("Fit "):
            assert NUMBER.sub("0", " ".join(code.split())) == NUMBER.sub("0", " ".join(printed.split()))
            shown, found = ([float(number) for number in NUMBER.findall(text)[1:]] for text in (code, printed))
            assert shown == pytest.approx(found, rel=0.01)  # the first number counts the steps


def test_the_first_command(capsys, tmp_path):
    """The README's command with fewer starts, in the shapes of the README's first block, so that both compile once."""
    arguments = ["compare", "faithful", "-k", "2", "--restarts", "2", "--out", str(tmp_path)]
    labels = tmp_path / "labels.csv"
    draws = tmp_path / "draws.npz"
    assert main([*arguments, "--labels", str(labels), "--save", str(draws)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "variance waiting" in captured.out
    assert "Verdict: agree." in captured.out
    assert max(map(len, captured.out.splitlines()[:-1])) <= 100
    shown = re.search(r"```text\n(.*?)```", README, re.S)[1]
    without_numbers = lambda text: re.sub(r"[-\d.]+", "0", " ".join(text.replace("steps", "step").split()))  # noqa: E731
    assert without_numbers(shown.partition("Written: ")[0]) == without_numbers(captured.out.partition("Written: ")[0])
    picture, record = tmp_path / "faithful-compare.png", json.loads((tmp_path / "faithful-compare.json").read_text())
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(record["comparison"]["parameters"]) == 12
    sampler = record["comparison"]["samplers"]["nuts"]
    assert sampler["divergences"] == 0
    assert sampler["r_hat_max"] < 1.01
    assert sampler["ess_min"] > 400
    table, names = read_table(labels)
    assert names[:3] == ["eruptions", "waiting", "component"]
    assert names[3:] == ["probability_0", "probability_1", "probability_sd_0", "probability_sd_1", "entropy"]
    assert table[:, :2].tolist() == jaxgmm.datasets.load("faithful").tolist()
    assert (table[:, 2] == table[:, 3:5].argmax(1)).all()
    assert table[:, 5] == pytest.approx(table[:, 6], abs=1e-5)  # of p and 1 - p
    assert 0 < table[:, 5].max() < 0.5
    assert jaxgmm.load(draws).log_density.shape == (4, 1000)
    assert main(["predict", str(draws), "faithful"]) == 0
    lines, predicted = labels.read_text().splitlines(), capsys.readouterr().out.splitlines()[-273:]
    assert predicted == lines
    assert isinstance(jaxgmm.load(tmp_path / "faithful-compare.json"), jaxgmm.Fit)
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert "faithful-compare.png and " in line
    assert "--force" in line
    assert main(["sample", str(tmp_path / "faithful-compare.json"), "-n", "50"]) == 0


def test_several_methods_and_a_report(capsys, monkeypatch, tmp_path):
    """The same shapes again, with made-up samplers."""
    calls = []
    for name in ("nuts", "gibbs", "laplace"):
        monkeypatch.setattr(f"jaxgmm.posterior.{name}.{name}", fake_method(name, calls))
    report = tmp_path / "page.html"
    common = ["compare", "faithful", "-k", "2", "--restarts", "2", "--out", str(tmp_path / "new")]
    saving = ["--save", str(tmp_path / "draws")]
    assert main([*common, "--methods", "laplace, nuts", "--report", str(report), *saving]) == 0
    captured = capsys.readouterr()
    assert "Written: " in captured.out
    assert str(report) in captured.out
    assert captured.err == ""
    assert [name for name, *_ in calls] == ["laplace", "nuts"]
    assert calls[0][1] != calls[1][1]
    record = json.loads((tmp_path / "new" / "faithful-compare.json").read_text())
    assert list(record["comparison"]["samplers"]) == ["laplace", "nuts"] == record["options"]["methods"]
    assert [jaxgmm.load(tmp_path / f"draws-{name}.npz").method for name in ("laplace", "nuts")] == ["laplace", "nuts"]
    text = report.read_text()
    assert text.index("Laplace: ") < text.index("NUTS: ")
    assert "variance waiting" in text
    assert "restarts" in text
    assert main([*common[:-1], str(tmp_path / "other"), "--report", str(report)]) == 2
    assert "page.html would be overwritten" in capsys.readouterr().err
    assert main([*common, "--force"]) == 0
    assert calls[-1][:2] == calls[1][:2]  # one method's draws do not depend on the others


def test_a_file_in_the_place_of_faithful(capsys, tmp_path):
    """Fit, draw data and fit again, for a csv file with a column of words in the shapes of the command above."""
    points = tmp_path / "points.csv"
    rows = [f"{a},{b},{'short' if a < 3 else 'long'}" for a, b in jaxgmm.datasets.load("faithful")]
    points.write_text("\n".join(["length,wait,kind", *rows]) + "\n")
    folder = tmp_path / "new" / "folder"
    common = ["fit", str(points), "-k", "2", "--columns", "length,wait", "--out", str(folder), "--restarts", "2"]
    common += ["--labels", str(tmp_path / "labels.csv")]
    assert main(common) == 0
    captured = capsys.readouterr()
    assert "CONVERGED" in captured.out
    assert "Maximum likelihood" in captured.out
    assert captured.err == ""
    path = folder / "points-fit.json"
    record = json.loads(path.read_text())
    assert record["data"]["feature_names"] == ["length", "wait"]
    assert sorted(record["mixture"]["weights"]) == pytest.approx([0.356, 0.644], abs=5e-3)
    # the published maximum of two free covariances
    assert record["maximum_likelihood"]["log_likelihood"] == pytest.approx(-1130.264, abs=1e-2)
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines[0] == "length,wait,kind,component,probability_0,probability_1"
    assert [line.rsplit(",", 3)[0] for line in lines[1:]] == rows
    labels = [int(line.split(",")[3]) for line in lines[1:]]
    assert [labels.count(k) for k in (0, 1)] == record["cluster_sizes"]
    assert f"{record['cluster_sizes'][0]}  {record['cluster_sizes'][0] / 2.72:.1f} %" in captured.out
    assert main(common) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert main([*common, "--force"]) == 0
    drawn = tmp_path / "drawn.csv"
    sample = ["sample", str(path), "-n", "50"]
    assert main([*sample, "--out", str(drawn), "--labels"]) == 0
    x, names = read_table(drawn)
    assert x.shape == (50, 3)
    assert names == ["length", "wait", "component"]
    assert set(x[:, 2]) == {0.0, 1.0}
    assert main([*sample, "--out", str(drawn)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    capsys.readouterr()
    assert main(sample) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "length,wait"
    assert len(lines) == 51


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
