-- Orders, each once by its order_id, with revenue in US dollars at the day's rate, and what was given back since. Rates are looked
-- up once for each day and currency, and hashes find the few orders that were told again: sorting all would cost more.
with rates as (
    select days.currency, days.event_date, told.usd
    from (select distinct currency, event_date from {{ ref('int_order_events') }}) as days
    asof left join {{ ref('stg_currency_rates') }} as told
        on told.currency = days.currency and told.rate_date <= days.event_date
),

valued as (
    select told.*, hash(told.order_id) as hashed, told.amount * rates.usd as amount_usd
    from {{ ref('int_order_events') }} as told
    left join rates on rates.currency = told.currency and rates.event_date = told.event_date
),

told_again as (
    select hash(order_id) as hashed from {{ ref('int_order_events') }}
    where event_name = {{ text(var('order_event')) }}
    group by hashed
    having count(*) > 1
),

orders as (
    select * from valued
    where event_name = {{ text(var('order_event')) }} and hashed not in (from told_again)
    union all
    select * from valued
    where event_name = {{ text(var('order_event')) }} and hashed in (from told_again)
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
),

first_times as (
    select person_id, min(event_at) as event_at from orders group by person_id
),

first_orders as (
    select person_id, min(message_id) as message_id
    from orders
    join first_times using (person_id, event_at)
    group by person_id
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
    first_orders.message_id is not null as is_first_order
from orders
left join refunds on refunds.order_id = orders.order_id
left join first_orders on first_orders.person_id = orders.person_id and first_orders.message_id = orders.message_id
