{{ config(tags=['business'], meta={'says': 'a day is missing from the calendar, or a day is over and an earlier one is not'}) }}
select date_day, lag(date_day) over days as day_before
from {{ ref('dim_date') }}
window days as (order by date_day)
qualify date_day - lag(date_day) over days <> 1 or (is_complete and not lag(is_complete) over days)
