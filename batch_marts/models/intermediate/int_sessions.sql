-- Sessions with whose they are and where they came from; without bots. Where from is worked out once for all sessions
-- that came in the same way: there are far fewer ways than sessions.
{{ config(materialized='versioned', key='session_id', day='session_date', ended_in='pinned_ended_sessions') }}
{%- set key = 'case when s.user_id is null then s.anonymous_id end' %}
with people as (
    select s.* exclude (committed_person_id), {{ person_of('s') }} as person_id
    from {{ ref('stg_sessions') }} as s
    {{ join_persons('s', key, 'started_at', 'first_message_id') }}
    where not s.is_bot and s.anonymous_id not in (from {{ ref('stg_bot_devices') }})
),

ways as (
    select distinct referrer, utm_source, utm_medium, utm_campaign from {{ ref('stg_sessions') }}
),

hosts as (
    select *, {{ host_of('referrer') }} as host from ways
),

linked as (
    select
        * exclude (host),
        case when host in ({% for own in var('own_hosts', []) %}{{ text(own) }}, {% endfor %}'') then null else host end as linking_host
    from hosts
),

placed as (
    select
        linked.*,
        sources.platform,
        referrers.kind as referrer_kind
    from linked
    left join {{ ref('sources') }} as sources on sources.utm_source = lower(linked.utm_source)
    left join {{ ref('referrers') }} as referrers on referrers.host = linked.linking_host
),

named as (
    select
        referrer,
        utm_source,
        utm_medium,
        utm_campaign,
        {{ channel_of('platform', 'utm_source', 'utm_medium', 'referrer_kind', 'linking_host') }} as channel,
        coalesce(utm_campaign, '(none)') as campaign_name
    from placed
),

keyed as (
    select *, {{ campaign_key('channel', 'campaign_name') }} as campaign_key from named
)

select people.*, keyed.channel, keyed.campaign_name, keyed.campaign_key
from people
join keyed
    on keyed.referrer is not distinct from people.referrer
    and keyed.utm_source is not distinct from people.utm_source
    and keyed.utm_medium is not distinct from people.utm_medium
    and keyed.utm_campaign is not distinct from people.utm_campaign
