"""EM over data that do not fit into memory, read in batches."""
