-- Events with whose they are, by all that was known at the build's start; without bots.
{{ config(materialized='view') }}
{%- set key = 'case when e.user_id is null or e.committed_person_id is distinct from e.user_id then e.anonymous_id end' %}
select e.* exclude (committed_person_id), {{ person_of('e') }} as person_id
from {{ ref('stg_events') }} as e
{{ join_persons('e', key, 'event_at', 'message_id') }}
where not e.is_bot and (e.anonymous_id is null or e.anonymous_id not in (from {{ ref('stg_bot_devices') }}))
