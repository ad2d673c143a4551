"""Comparison of an EM solution with posteriors."""
