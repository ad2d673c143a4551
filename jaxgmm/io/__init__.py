"""Saved results and tables of numbers in files."""
