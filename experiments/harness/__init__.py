"""What experiments share: runs that are made once and stored by content, small models from nothing, tables, pages."""
