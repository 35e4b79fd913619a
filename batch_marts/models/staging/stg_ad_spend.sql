select
    platform,
    account,
    coalesce(nullif(campaign_id, ''), campaign) as campaign_ref,
    campaign as campaign_name,
    spend_date,
    currency,
    spend,
    impressions,
    clicks,
    conversions as reported_conversions,
    conversion_value as reported_value,
    file_id
from {{ source('marketing', 'ad_spend') }}
