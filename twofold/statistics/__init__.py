"""Uncertainty of figures: intervals of shares, means and ratios, and tests of two models on the same items."""

from twofold.statistics.agreement import cohens_kappa
from twofold.statistics.bootstrap import bca_bounds, bootstrap_ratio, paired_bootstrap, paired_bootstrap_p
from twofold.statistics.intervals import (
    Estimate,
    WinRate,
    by_cluster,
    clustered_mean,
    clustered_share,
    mean_by_cluster,
    mean_interval,
    repeated,
    share_by_cluster,
    share_difference,
    weighted_share,
    wilson,
    win_rate,
)
from twofold.statistics.paired_tests import PairedTest, holm, mcnemar, sign_flips, sign_test, two_proportions
from twofold.statistics.raters import fleiss_kappa, krippendorffs_alpha, mirrored_kappa

__all__ = [
    "Estimate",
    "PairedTest",
    "WinRate",
    "bca_bounds",
    "bootstrap_ratio",
    "by_cluster",
    "clustered_mean",
    "clustered_share",
    "cohens_kappa",
    "fleiss_kappa",
    "holm",
    "krippendorffs_alpha",
    "mcnemar",
    "mean_by_cluster",
    "mean_interval",
    "mirrored_kappa",
    "paired_bootstrap",
    "paired_bootstrap_p",
    "repeated",
    "share_by_cluster",
    "share_difference",
    "sign_flips",
    "sign_test",
    "two_proportions",
    "weighted_share",
    "wilson",
    "win_rate",
]
