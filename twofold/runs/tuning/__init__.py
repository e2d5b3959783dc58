"""Tuning: trials of several recipes, chosen on development rows by successive halving, confirmed once on fresh rows."""
