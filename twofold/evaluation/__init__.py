"""Models on the same items, with intervals and paired tests: one call for each task."""
