-- Sessions with whose they are and where they came from; without bots.
{{ config(materialized='versioned', key='session_id', day='session_date', ended_in='pinned_ended_sessions') }}
{%- set key = 'case when s.user_id is null then s.anonymous_id end' %}
with people as (
    select s.* exclude (committed_person_id, last_message_id), {{ person_of('s') }} as person_id
    from {{ ref('stg_sessions') }} as s
    {{ join_persons('s', key, 'started_at', 'first_message_id') }}
    where not s.is_bot and s.anonymous_id not in (from {{ ref('stg_bot_devices') }})
)

select people.*, ways.channel, ways.campaign_name, ways.campaign_key
from people
join {{ ref('int_ways_in') }} as ways
    on ways.referrer is not distinct from people.referrer
    and ways.utm_source is not distinct from people.utm_source
    and ways.utm_medium is not distinct from people.utm_medium
    and ways.utm_campaign is not distinct from people.utm_campaign
