-- Every way in which sessions came in, a referrer with a campaign, and the channel that this is. A table, as there are far
-- fewer ways than sessions, which DuckDB has to know when it joins them.
with ways as (
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
)

select *, {{ campaign_key('channel', 'campaign_name') }} as campaign_key from named
