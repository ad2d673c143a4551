"""Test `jaxgmm study`: how it calls `coverage_study`, its files, and the arguments that it refuses."""

import json

from jaxgmm.cli import main

from helpers import study_of


def test_study(capsys, refused, monkeypatch, tmp_path):
    calls = []

    def coverage_study(key, design, *, path, progress):
        calls.append((design, path, progress))
        return study_of(design)

    monkeypatch.setattr("jaxgmm.coverage.study.coverage_study", coverage_study)
    (tmp_path / "small.toml").write_text('separations = [1, 4]\nnum_observations = [50]\nmethods = ["map"]\n')
    arguments = ["study", str(tmp_path / "small.toml"), "--out", str(tmp_path / "new")]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "Coverage study" in captured.out
    assert captured.err == ""
    ((design, path, progress),) = calls
    assert design.separations == (1, 4)
    assert path == tmp_path / "new" / "small-study.npz"
    assert not progress
    record = json.loads((tmp_path / "new" / "small-study.json").read_text())
    assert len(record["study"]["rows"]) == 4
    assert record["study"]["design"]["methods"] == ["map"]
    assert (tmp_path / "new" / "small-study.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "new" / "small-study.csv").read_text().splitlines()) == 5
    assert "would be overwritten" in refused(*arguments)
    assert main([*arguments, "--force", "--resume", str(tmp_path / "kept.npz")]) == 0
    assert calls[1][1] == tmp_path / "kept.npz"


def test_an_interrupted_study_names_the_file_from_which_it_continues(capsys, monkeypatch, tmp_path):
    def coverage_study(key, design, *, path, progress):
        if is_stored:
            path.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxgmm.coverage.study.coverage_study", coverage_study)
    (tmp_path / "small.toml").write_text("num_datasets = 2")
    for is_stored in (False, True):
        assert main(["study", str(tmp_path / "small.toml"), "--out", str(tmp_path)]) == 130
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("jaxgmm: interrupted: no more files were written")
        assert last.endswith(f"the same command continues from '{tmp_path / 'small-study.npz'}'.") == is_stored


def test_study_refuses(refused, tmp_path):
    assert "there is no file" in refused("study", tmp_path / "no.toml")
    for text, words in [
        ("[", "not a TOML file"),
        ("a = " + "[" * 10**5, "nested too deeply"),
        ("wide = 3", "wide"),
        ("num_datasets = 0", "num_datasets"),
    ]:
        (tmp_path / "bad.toml").write_text(text)
        assert words in refused("study", tmp_path / "bad.toml", "--out", tmp_path)
    (tmp_path / "good.toml").write_text("num_datasets = 2")
    (tmp_path / "other.npz").write_text("hello")
    other = ["--resume", tmp_path / "other.npz", "--out", tmp_path]
    assert "not the file of a study" in refused("study", tmp_path / "good.toml", *other)
    assert not list(tmp_path.glob("good-*"))
