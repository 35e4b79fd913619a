-- What events say of orders and refunds. A day to which nothing happened stays as it was.
{{ config(materialized='versioned', key='event_date', ended_in='pinned_changed_days', ended_key='changed_day') }}
select
    event_row,
    coalesce(json_extract_string(properties, '$.order_id'), message_id) as order_id,
    event_name,
    message_id,
    person_id,
    event_at,
    event_date,
    try_cast(coalesce(json_extract_string(properties, '$.revenue'), json_extract_string(properties, '$.total')) as decimal(18, 4))
        as amount,
    upper(coalesce(json_extract_string(properties, '$.currency'), 'USD')) as currency
from {{ ref('int_events') }}
where event_name in ({{ text(var('order_event')) }}, {{ text(var('refund_event')) }}) and event_type = 'track'
  and {{ is_changed_day('event_date', 'event_at') }}
