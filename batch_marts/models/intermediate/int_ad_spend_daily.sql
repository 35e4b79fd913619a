-- Spend by channel, campaign and day, in US dollars at the day's rate.
select
    spend.spend_date,
    spend.platform as channel,
    spend.account,
    spend.campaign_name,
    {{ campaign_key('spend.platform', 'spend.campaign_name') }} as campaign_key,
    spend.currency,
    sum(spend.spend) as spend,
    sum(spend.spend * rates.usd) as spend_usd,
    sum(spend.impressions) as impressions,
    sum(spend.clicks) as clicks
from {{ ref('stg_ad_spend') }} as spend
asof left join {{ ref('stg_currency_rates') }} as rates
    on rates.currency = spend.currency and rates.rate_date <= spend.spend_date
group by all
