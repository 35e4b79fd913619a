-- Orders, each once by its order_id, with revenue in US dollars at the day's rate, and what was given back since.
with valued as (
    select told.*, told.amount * rates.usd as amount_usd
    from {{ ref('int_order_events') }} as told
    asof left join {{ ref('stg_currency_rates') }} as rates
        on rates.currency = told.currency and rates.rate_date <= told.event_date
),

orders as (
    select * from valued
    where event_name = {{ text(var('order_event')) }}
    qualify row_number() over (partition by order_id order by event_at, message_id) = 1
),

refunds as (
    select order_id, sum(amount_usd) as refunded_usd
    from (
        select * from valued
        where event_name = {{ text(var('refund_event')) }}
        qualify row_number() over (partition by order_id, event_at order by message_id) = 1
    )
    group by order_id
)

select
    orders.order_id,
    orders.person_id,
    orders.event_at as ordered_at,
    orders.event_date as order_date,
    orders.message_id,
    orders.currency,
    orders.amount as revenue,
    orders.amount_usd is null as is_without_value,
    cast(coalesce(orders.amount_usd, 0) as decimal(18, 2)) as revenue_usd,
    cast(coalesce(refunds.refunded_usd, 0) as decimal(18, 2)) as refunded_usd,
    row_number() over (partition by orders.person_id order by orders.event_at, orders.message_id) = 1 as is_first_order
from orders
left join refunds on refunds.order_id = orders.order_id
