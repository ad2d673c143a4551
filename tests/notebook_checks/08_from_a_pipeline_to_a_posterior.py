"""Checks of the numbers in the notebook 08_from_a_pipeline_to_a_posterior.ipynb. Each block runs after the cell it names."""

# %% after pipeline
scores = np.array([result.cv_results_["mean_test_score"] for result in (theirs, ours)])
assert np.allclose(scores[0, :2], scores[1, :2], atol=2e-3)
assert (scores[:, 0] < scores[:, 1] - 0.3).all()
for result, (_, two, three) in zip((theirs, ours), scores, strict=True):
    assert abs(two - three) < result.cv_results_["std_test_score"][1]

# %% after compare
assert comparison.samplers["gibbs"].verdict.word == "agree"

# %% after new
assert (lower <= mean).all()
assert (mean <= upper).all()
assert upper[i] - lower[i] > 0.1  # uncertain between the two kinds
assert (upper - lower)[[0, -1]].max() < 0.1  # certain at both ends
assert np.allclose(at_estimate.sum(1), 1, atol=1e-5)

# %% after units
assert np.allclose(np.sort(means[:, :, 1].mean(0)), [54.5, 80.0], atol=0.5)  # the means of the tour
