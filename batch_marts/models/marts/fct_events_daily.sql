with fresh as (
    select
        event_date,
        event_name,
        coalesce(path, '(none)') as path,
        coalesce(device_type, '(none)') as device_type,
        count(*) as event_count,
        count(distinct person_id) as person_count
    from {{ ref('int_events') }}
    where {{ is_changed_day('event_date', 'event_at') }}
    group by all
)

{{ carried_over('event_date') }}
select event_date, event_name, path, device_type, event_count, person_count
from fresh
