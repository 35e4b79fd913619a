-- Every day from the first to the last of an event or of spend, or up to which the events are known.
with known as (
    select first_day, last_day, as_of from {{ source('pinned', 'pinned_moment') }}
),

bounds as (
    select
        least(
            (select first_day from known),
            (select min(spend_date) from {{ ref('stg_ad_spend') }})
        ) as first_day,
        greatest(
            (select last_day from known),
            (select max(spend_date) from {{ ref('stg_ad_spend') }})
        ) as last_day,
        (select as_of from known) as as_of
)

select
    cast(day as date) as calendar_date,
    -- Over when every partition's watermark has passed its end.
    bounds.as_of >= cast(day as timestamp) at time zone 'UTC' + interval 1 day as is_complete
from bounds, unnest(generate_series(
    cast(bounds.first_day as timestamp), cast(bounds.last_day as timestamp), interval 1 day
)) as days (day)
