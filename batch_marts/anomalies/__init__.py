"""Anomalies: which values of which metrics are not as they should be, what explains it, and who is told.

`settings` is what people write in metrics.yml, `base.sql` and `seasonal.sql` are the two rules, `judging` runs them on
any values, `wording` says it in words, `segments` finds out where a change comes from. `days` judges the nightly marts,
`rolling` the stream while the day runs, `arrival` whether the data is there at all, `health` Stitchline itself;
`backtest` tries other settings. `incidents` is what verdicts become, and `record` puts them on record with what has to
be said (`message`, `chart`) to whom (`owners`).
"""

from batch_marts.anomalies.settings import Anomaly, Quiet
from batch_marts.anomalies.verdicts import Part, Verdict

__all__ = ["Anomaly", "Part", "Quiet", "Verdict"]
