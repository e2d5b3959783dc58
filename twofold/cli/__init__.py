"""The command line: one file per verb, which asks the library and shows what it answers."""
