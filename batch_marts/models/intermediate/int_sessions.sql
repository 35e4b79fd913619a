-- Sessions with whose they are and where they came from; without bots.
{%- set key = 'case when s.user_id is null then s.anonymous_id end' %}
with people as (
    select s.* exclude (committed_person_id), {{ person_of('s') }} as person_id
    from {{ ref('stg_sessions') }} as s
    {{ join_persons('s', key, 'started_at', 'first_message_id') }}
    where not s.is_bot and s.anonymous_id not in (from {{ ref('stg_bot_devices') }})
),

linked as (
    select *, {{ host_of('referrer') }} as linking_host from people
),

placed as (
    select
        linked.* replace (
            case when linking_host in ({% for host in var('own_hosts', []) %}'{{ host }}', {% endfor %}'') then null
                else linking_host end as linking_host
        ),
        sources.platform,
        referrers.kind as referrer_kind
    from linked
    left join {{ ref('sources') }} as sources on sources.utm_source = lower(linked.utm_source)
    left join {{ ref('referrers') }} as referrers on referrers.host = linking_host
),

named as (
    select
        * exclude (platform, referrer_kind, linking_host),
        {{ channel_of('platform', 'utm_source', 'utm_medium', 'referrer_kind', 'linking_host') }} as channel,
        coalesce(utm_campaign, '(none)') as campaign_name
    from placed
)

select *, {{ campaign_key('channel', 'campaign_name') }} as campaign_key
from named
