-- Revenue in the marts = revenue in the events, each order once. Worked out from the stream's own table; what the events of
-- a day to which nothing happened say has been tested by the build before.
{{ config(tags=['business'], meta={'says': 'the revenue in fct_conversions and mart_acquisition is not that of the order events'}) }}
with told as (
    select
        coalesce(json_extract_string(properties, '$.order_id'), message_id) as order_id,
        event_at,
        message_id,
        event_date,
        try_cast(coalesce(json_extract_string(properties, '$.revenue'), json_extract_string(properties, '$.total')) as decimal(18, 4)) as amount,
        upper(coalesce(json_extract_string(properties, '$.currency'), 'USD')) as currency
    from {{ ref('stg_events') }}
    where event_name = {{ text(var('order_event')) }} and event_type = 'track'
      and not is_bot and (anonymous_id is null or anonymous_id not in (from {{ ref('stg_bot_devices') }}))
      and {{ is_changed_day('event_date', 'event_at') }}
    {% if carries_over() %}
    union all
    select order_id, event_at, message_id, event_date, amount, currency
    from {{ adapter.quote(var('previous_build')) }}.int_order_events
    where event_name = {{ text(var('order_event')) }} and not {{ is_changed_day('event_date') }}
    {% endif %}
),

events as (
    select coalesce(sum(cast(amount * usd as decimal(18, 2))), 0) as usd
    from (select * from told qualify row_number() over (partition by order_id order by event_at, message_id) = 1) as once
    asof left join {{ ref('stg_currency_rates') }} as rates
        on rates.currency = once.currency and rates.rate_date <= once.event_date
),

conversions as (
    select coalesce(sum(value_usd * linear), 0) as usd from {{ ref('fct_conversions') }} where conversion_type = 'order'
),

acquisition as (
    select coalesce(sum(revenue_usd), 0) as usd from {{ ref('mart_acquisition') }}
),

people as (
    select coalesce(sum(revenue_usd), 0) as usd from {{ ref('dim_person') }}
)

select events.usd as of_events, conversions.usd as of_conversions, acquisition.usd as of_acquisition, people.usd as of_people
from events, conversions, acquisition, people
where abs(events.usd - conversions.usd) > 0.01
   or abs(events.usd - acquisition.usd) > 0.01
   or abs(events.usd - people.usd) > 0.01
