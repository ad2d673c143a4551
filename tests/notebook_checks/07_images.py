"""Checks of the numbers in the notebook 07_images.ipynb; each block runs after the cell that it names."""

# %% after photo
assert pixels.shape == (273_280, 3)

# %% after segment
assert bool(fit.converged)
assert len(np.unique(segments)) == 12
assert ((painted - photo) ** 2).mean() < 0.25 * (
    (photo - photo.mean((0, 1))) ** 2
).mean()  # twelve colours explain most of the variance

# %% after shares
assert np.allclose(shares.sum(-1), 1, atol=1e-5)
assert np.allclose(
    shares.mean((0, 1)), fit.mixture.weights, atol=0.02
)  # a fit to a quarter of the pixels describes all of them

# %% after names
named = [p_name[row, column].argmax() for places in PLACES.values() for row, column in places]
assert np.allclose(p_name.sum(-1), 1, atol=1e-4)
assert (p_name[:100].argmax(-1) == 0).mean() > 0.8  # the top of the photograph is sky, except for a roof
assert (p_name[-20:].argmax(-1) == 1).mean() > 0.6  # the bottom consists of leaves

# %% after iris
ours, theirs = (np.mean(values, axis=1) for values in accuracy.values())
assert everything > 0.95
assert abs(ours - everything).max() < 0.02
assert (ours > theirs + 0.02).all()
