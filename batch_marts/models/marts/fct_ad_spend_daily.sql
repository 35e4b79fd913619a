select
    spend_date,
    channel,
    account,
    campaign_name,
    campaign_key,
    currency,
    cast(spend as decimal(18, 4)) as spend,
    cast(coalesce(spend_usd, 0) as decimal(18, 4)) as spend_usd,
    spend_usd is null as is_without_rate,
    cast(impressions as bigint) as impressions,
    cast(clicks as bigint) as clicks
from {{ ref('int_ad_spend_daily') }}
