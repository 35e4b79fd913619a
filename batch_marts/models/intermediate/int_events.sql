-- Events with whose they are, by all that was known at the build's start; without bots.
{{ config(materialized='view') }}
select
    e.* exclude (committed_person_id),
    coalesce(m.merged_into, o.person_id, e.committed_person_id) as person_id
from {{ ref('stg_events') }} as e
left join {{ ref('stg_person_overrides') }} as o
    -- One plain key: an `or` in the condition would make this a nested loop.
    on o.anonymous_id = case
        when e.user_id is null or e.committed_person_id is distinct from e.user_id then e.anonymous_id
    end
    and (e.event_at, e.message_id) >= (o.from_at, o.from_message_id)
    and (e.event_at, e.message_id) < (o.to_at, o.to_message_id)
left join {{ ref('stg_person_merges') }} as m on m.person_id = coalesce(o.person_id, e.committed_person_id)
where not e.is_bot and (e.anonymous_id is null or e.anonymous_id not in (from {{ ref('stg_bot_devices') }}))
