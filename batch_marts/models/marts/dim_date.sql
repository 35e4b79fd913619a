select
    calendar_date as date_day,
    cast(extract(year from calendar_date) as integer) as year_number,
    cast(extract(quarter from calendar_date) as integer) as quarter_of_year,
    cast(date_trunc('month', calendar_date) as date) as month_start,
    cast(date_trunc('week', calendar_date) as date) as week_start,
    cast(extract(isodow from calendar_date) as integer) as iso_weekday,
    dayname(calendar_date) as weekday_name,
    extract(isodow from calendar_date) >= 6 as is_weekend,
    is_complete
from {{ ref('int_calendar') }}
