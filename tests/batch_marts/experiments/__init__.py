"""Statsmodels, with which figures are compared here, cannot do without pandas."""

from stitchline.absent import do_not_look_for_pandas, look_for_pandas_again

look_for_pandas_again()
import statsmodels.stats.api as _  # noqa: E402, F401

do_not_look_for_pandas()
