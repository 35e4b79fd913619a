-- No gaps in the calendar, and the parts of what is counted add up to the whole.
{{ config(tags=['business'], meta={'says': 'a metric lacks a day, or its parts do not add up to the whole'}) }}
with days as (
    select count(*) as days from {{ ref('dim_date') }}
)

select metric_name, dimension, count(distinct metric_date) as found, any_value(days.days) as expected
from {{ ref('mart_daily_metrics') }}, days
group by metric_name, dimension
having count(distinct metric_date) <> any_value(days.days)
