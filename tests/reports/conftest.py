"""Every test of reports may ask for a run directory."""

from support.made_up_runs import make_run

__all__ = ["make_run"]
