-- Each event once: a copy that came long after the original is left out here.
select
    rowid as event_row,
    message_id,
    type as event_type,
    name as event_name,
    anonymous_id,
    user_id,
    person_id as committed_person_id,
    event_at,
    {{ utc_day('event_at') }} as event_date,
    received_at,
    path,
    referrer,
    utm_source,
    utm_medium,
    utm_campaign,
    device_type,
    browser,
    os,
    properties,
    context,
    clock_skewed as is_clock_skewed,
    is_bot,
    is_background
from {{ source('stream', 'events') }}
where rowid <= (select last_row from {{ source('pinned', 'pinned_moment') }})
  and rowid not in (select event_row from {{ source('pinned', 'pinned_copies') }})
