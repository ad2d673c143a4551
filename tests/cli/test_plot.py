"""Test what `jaxgmm plot` draws and refuses."""

from jaxgmm.cli import main


def test_a_picture(capsys, monkeypatch, refused, tmp_path, points, mixture_record):
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "picture.PNG"
    assert main(["plot", str(mixture_record), str(points), "-o", str(picture)]) == 0
    assert capsys.readouterr().out == f"Written: {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "would be overwritten" in refused("plot", mixture_record, points, "-o", picture)
    assert "ends with .png was expected" in refused("plot", mixture_record, points, "-o", tmp_path / "a.pdf")
    (tmp_path / "points-plot.png").write_bytes(b"")
    assert "points-plot.png would be overwritten" in refused("plot", mixture_record, points)
