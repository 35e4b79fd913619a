with seen as (
    select campaign_key, channel, campaign_name, session_date as seen_on
    from {{ ref('int_sessions') }}
    union all
    select campaign_key, channel, campaign_name, spend_date
    from {{ ref('int_ad_spend_daily') }}
    union all
    select {{ campaign_key("'none'", "'(none)'") }}, 'none', '(none)', null
)

select
    campaign_key,
    any_value(channel) as channel,
    any_value(campaign_name) as campaign_name,
    min(seen_on) as first_seen_on,
    max(seen_on) as last_seen_on
from seen
group by campaign_key
