"""Test the arguments that `jaxgmm fit` refuses. Its results are tested in test_readme.py, where they compile anyway."""


def test_counts_and_seed(refused, points):
    assert "integer >= 1" in refused("fit", points, "-k", 0, "--columns", "0")
    assert "invalid int value: 'two'" in refused("fit", points, "-k", "two")
    assert "seed" in refused("fit", points, "-k", 2, "--seed", -1)
    assert "restarts" in refused("fit", points, "-k", 2, "--restarts", 0)


def test_more_components_than_rows(refused, tmp_path, points):
    assert "31 components" in refused("fit", points, "-k", 31, "--columns", "0", "--out", tmp_path)


def test_output_folder_that_is_a_file(refused, points):
    assert "is a file" in refused("fit", points, "-k", 2, "--columns", "0", "--out", points)
