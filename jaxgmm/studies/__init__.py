"""Code that comparisons, calibrations and coverage studies share."""
