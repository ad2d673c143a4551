"""Checks of the numbers in the notebook 10_incomplete_rows.ipynb; each block runs after the cell that it names."""


# %% after stars-fit
def spread(found):
    return np.sort(np.diagonal(found.covariances, axis1=1, axis2=2)[:, 0] ** 0.5)


assert (spread(naive.mixture) > 1.2 * spread(truth)).all()  # the errors widen the components
assert np.abs(spread(fit.mixture) / spread(truth) - 1).max() < 0.2
assert abs(float(fit.mixture.weights.max()) - 0.65) < 0.08

# %% after stars-denoise
assert after < 0.8 * before
assert unseen < 0.7 * true_values[:, 0].std()
assert 0.86 < inside.mean() < 0.94

# %% after stars-posterior
assert low < 0.65 < high
assert float(posterior.stats["rhat"]) < 1.1

# %% after laboratory-fit
assert accuracy(labelled, table, True) > accuracy(alone, unlabelled, False) + 0.03

# %% after laboratory-impute
assert filled[:, hidden, 1].max() <= 1.0
assert abs(filled[..., 1].mean() - full[:, 1].mean()) < 0.1 < np.nanmean(reported[:, 1]) - full[:, 1].mean()
assert guess[hidden, 1].std() < 0.6 * filled[:, hidden, 1].std()
