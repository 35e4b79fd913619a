-- The seasonal rule: each value against the same place in the six weeks before, at today's level.
-- Relation `told` (series, slot, value, kept, counts): a row for every slot from a series' first to its last; `kept` is
-- the value where it may be learned from, else null. {season} slots are a week. Gives series, slot, value, expected,
-- deviation, baseline. Why it is this: docs/decisions/0019-seasonal-rule.md.
with weeks as (
    select series, slot, value, kept, counts, [
        lag(kept, 1 * {season}) over w, lag(kept, 2 * {season}) over w, lag(kept, 3 * {season}) over w,
        lag(kept, 4 * {season}) over w, lag(kept, 5 * {season}) over w, lag(kept, 6 * {season}) over w
    ] as same
    from told
    window w as (partition by series order by slot)
),

placed as (
    select series, slot, value, kept, counts, list_count(same) as baseline,
        case when list_count(same) >= {least_weeks} then list_median(same) end as usual
    from weeks
),

-- What a change is measured in: the usual value, but not less than a tenth of that of a whole week.
sized as (
    select *, greatest(abs(usual), 0.1 * avg(abs(usual)) over (
        partition by series order by slot rows between {season} - 1 preceding and current row
    )) as size
    from placed
),

changed as (
    select *, case when size > 0 then (kept - usual) / size when kept = usual then 0 end as change
    from sized
),

-- By how much the last weeks were above or below what was usual for them: growth, mostly. Where most of them are left
-- out, what it was last.
lately as (
    select *, case when count(change) over w >= {season} then median(change) over w end as lately
    from changed
    window w as (partition by series order by slot rows between {level} preceding and 1 preceding)
),

levelled as (
    select * exclude (lately),
        last_value(lately ignore nulls) over (partition by series order by slot rows unbounded preceding) as level
    from lately
),

surprising as (
    select *, abs(change - level) as surprise
    from levelled
),

spread as (
    select *, median(surprise) over w as middle, count(surprise) over w as surprises
    from surprising
    window w as (partition by series order by slot rows between {spread} preceding and 1 preceding)
),

expected as (
    select series, slot, value, baseline, size, middle, counts,
        case when surprises >= 2 * {season} then usual + level * size end as expected
    from spread
)

select series, slot, value, baseline, expected,
    case when expected is not null then greatest(
        greatest(1.4826 * middle, {least_deviation}) * size,
        case when counts then sqrt(greatest(expected, 1)) else 0 end
    ) end as deviation
from expected
