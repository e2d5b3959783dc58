"""From files to records to token groups: formats, checks, splits, order."""
