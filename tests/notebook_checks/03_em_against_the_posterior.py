"""Checks of the numbers in the notebook 03_em_against_the_posterior.ipynb; each block runs after the cell that it names."""

# %% after agree
for one, two in zip(by_name["nuts"], by_name["gibbs"], strict=True):
    assert abs(one.mean - two.mean) < 0.15 * one.sd  # both samplers give the same posterior
    assert one.inside
    assert abs(one.z) < 1

# %% after few
z = [entry(comparison_n, "covariances[0,1,1]").z for comparison_n in small.values()]
assert z[2] < z[0] < 0
assert abs(entry(small[20], "means[0,1]").z) < 0.3
row = entry(small[20], "covariances[0,1,1]")
assert row.mean > 1.5 * row.em

# %% after predict
assert averaged.mean() > from_em.mean() + 0.1

# %% after overlap
widest = max(entry(three, f"means[{k},1]").sd for k in range(3))
assert widest > 3 * max(entry(comparison, f"means[{k},1]").sd for k in range(2))
assert sampler.verdict.word != "agree"
assert comparison.samplers["gibbs"].verdict.word == "agree"

# %% after switching
assert same
assert not sampler.identified
assert sampler.switch_rate > 0.02
