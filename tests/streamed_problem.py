"""Rows in batches, for the tests of EM over batches; all of them use the same compiled programs."""

import numpy as np

from helpers import random_data, random_mixture, random_weight

CUTS = [3, 50, 51, 51, 130, 190]  # seven batches, one of them empty
OPTIONS = {"tol": 0.0, "max_iter": 6}


class Interrupted(Exception):
    """The end of a process, as the source of the data sees it."""


class Failing:
    """Batches that raise an error at one batch of one pass, and count the batches that were read."""

    def __init__(self, batches, place=None):
        self.batches, self.place, self.passes = batches, place, 0

    def __iter__(self):
        self.passes += 1
        for i, batch in enumerate(self.batches):
            if (self.passes, i) == self.place:
                raise Interrupted
            yield batch


def problem(kind="full"):
    """Return a start, rows, weights and the same data in seven batches."""
    x, w = random_data(0, n=200), random_weight(0, n=200)
    return random_mixture(0, kind), x, w, list(zip(np.split(x, CUTS), np.split(w, CUTS), strict=True))
