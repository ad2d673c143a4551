"""Test the arguments that `jaxgmm compare` refuses. Its results are tested in test_readme.py, where they compile anyway."""


def test_options(refused, points):
    assert "required" in refused("compare", points)
    assert "invalid choice" in refused("compare", points, "-k", 2, "--covariance-type", "round")
    assert "between 0 and 1" in refused("compare", points, "-k", 2, "--interval", 95)
    assert "num_samples is 0" in refused("compare", points, "-k", 2, "--num-samples", 0)


def test_methods_and_report(refused, tmp_path, points):
    rest = ["--columns", "0,1", "--out", tmp_path]
    assert "'vb'" in refused("compare", points, "-k", 2, "--methods", "nuts,vb", *rest)
    assert "the same name twice" in refused("compare", points, "-k", 2, "--methods", "nuts,nuts", *rest)
    assert "is a folder" in refused("compare", points, "-k", 2, "--report", tmp_path, *rest)
    assert "not a writable folder" in refused("compare", points, "-k", 2, "--report", tmp_path / "no" / "a.html", *rest)
    assert "not a writable folder" in refused("compare", points, "-k", 2, "--save", tmp_path / "no" / "a.npz", *rest)
    assert "is the file that the data" in refused("compare", points, "-k", 2, "--labels", points, "--force", *rest)
    assert {path.name for path in tmp_path.iterdir()} == {"points.csv"}
