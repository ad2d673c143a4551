"""Save results to files, load them, and read tables of numbers."""
