-- Of days that are carried over the build before has said it.
{{ config(tags=['business'], meta={'says': 'a day has more or fewer events than the stream has'}) }}
with mart as (
    select event_date, sum(event_count) as events
    from {{ ref('fct_events_daily') }}
    where {{ is_changed_day('event_date') }}
    group by all
),

stream as (
    select event_date, count(*) as events
    from {{ ref('stg_events') }}
    where {{ is_changed_day('event_date', 'event_at') }}
      and not is_bot and (anonymous_id is null or anonymous_id not in (from {{ ref('stg_bot_devices') }}))
    group by all
)

select event_date, stream.events as expected, mart.events as found
from stream
full join mart using (event_date)
where stream.events is distinct from mart.events
