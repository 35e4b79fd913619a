-- The base rule: each value against the mean and the sample standard deviation of the rows 7 preceding to 1 preceding.
-- Relation `told` (series, slot, value); gives series, slot, value, expected, deviation, baseline.
--
-- The seven values are taken apart and the sums are of differences to the nearest of them, relative to the greatest of
-- these: so values that are all the same have a deviation of 0 and not of rounding, and huge ones do not overflow.
with lagged as (
    select series, slot, value,
        lag(value, 1) over w as v1, lag(value, 2) over w as v2, lag(value, 3) over w as v3, lag(value, 4) over w as v4,
        lag(value, 5) over w as v5, lag(value, 6) over w as v6, lag(value, 7) over w as v7
    from told
    window w as (partition by series order by slot)
),

counted as (
    select *,
        (v1 is not null)::integer + (v2 is not null)::integer + (v3 is not null)::integer + (v4 is not null)::integer
            + (v5 is not null)::integer + (v6 is not null)::integer + (v7 is not null)::integer as baseline,
        greatest(abs(v2 - v1), abs(v3 - v1), abs(v4 - v1), abs(v5 - v1), abs(v6 - v1), abs(v7 - v1)) as reach
    from lagged
),

scaled as (
    select series, slot, value, v1, reach, baseline,
        coalesce((v2 - v1) / nullif(reach, 0), 0) as d2, coalesce((v3 - v1) / nullif(reach, 0), 0) as d3,
        coalesce((v4 - v1) / nullif(reach, 0), 0) as d4, coalesce((v5 - v1) / nullif(reach, 0), 0) as d5,
        coalesce((v6 - v1) / nullif(reach, 0), 0) as d6, coalesce((v7 - v1) / nullif(reach, 0), 0) as d7
    from counted
),

centred as (
    select *, (d2 + d3 + d4 + d5 + d6 + d7) / 7 as middle from scaled
)

select series, slot, value, baseline,
    case when baseline = 7 then v1 + reach * middle end as expected,
    case when baseline = 7 then reach * sqrt((
        middle * middle + (d2 - middle) * (d2 - middle) + (d3 - middle) * (d3 - middle) + (d4 - middle) * (d4 - middle)
        + (d5 - middle) * (d5 - middle) + (d6 - middle) * (d6 - middle) + (d7 - middle) * (d7 - middle)
    ) / 6) end as deviation
from centred
