with won as (
    select
        cast(date_trunc('month', conversion_date) as date) as month_start,
        channel,
        campaign_key,
        sum({{ var('acquisition_model') }}) filter (where is_first_order) as new_customers,
        sum({{ var('acquisition_model') }}) filter (where conversion_type = 'order') as orders,
        sum({{ var('acquisition_model') }} * value_usd) filter (where conversion_type = 'order') as revenue_usd
    from {{ ref('fct_conversions') }}
    group by all
),

spent as (
    select
        cast(date_trunc('month', spend_date) as date) as month_start,
        channel,
        campaign_key,
        sum(spend_usd) as spend_usd
    from {{ ref('fct_ad_spend_daily') }}
    group by all
)

select
    month_start,
    channel,
    campaign_key,
    cast(coalesce(spent.spend_usd, 0) as double) as spend_usd,
    coalesce(won.new_customers, 0) as new_customers,
    coalesce(won.orders, 0) as orders,
    coalesce(won.revenue_usd, 0) as revenue_usd,
    spent.spend_usd / nullif(won.new_customers, 0) as cac_usd,
    won.revenue_usd / nullif(spent.spend_usd, 0) as roas
from won
full join spent using (month_start, channel, campaign_key)
