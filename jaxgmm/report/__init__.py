"""Reports: write a comparison as one HTML page."""
