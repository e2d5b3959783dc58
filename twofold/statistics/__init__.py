"""Uncertainty of figures: intervals of shares, means and ratios, and tests of two models on the same items."""

from twofold.statistics.agreement import cohens_kappa
from twofold.statistics.bootstrap import bootstrap_ratio, paired_bootstrap, paired_bootstrap_p
from twofold.statistics.intervals import (
    Estimate,
    WinRate,
    clustered_mean,
    clustered_share,
    mean_interval,
    weighted_share,
    wilson,
    win_rate,
)
from twofold.statistics.paired_tests import PairedTest, holm, mcnemar, sign_flips, sign_test, two_proportions

__all__ = [
    "Estimate",
    "PairedTest",
    "WinRate",
    "bootstrap_ratio",
    "clustered_mean",
    "clustered_share",
    "cohens_kappa",
    "holm",
    "mcnemar",
    "mean_interval",
    "paired_bootstrap",
    "paired_bootstrap_p",
    "sign_flips",
    "sign_test",
    "two_proportions",
    "weighted_share",
    "wilson",
    "win_rate",
]
