-- What counts as a conversion: an order, or a sign-up.
select
    'order:' || order_id as conversion_id,
    'order' as conversion_type,
    person_id,
    ordered_at as converted_at,
    order_date as conversion_date,
    revenue_usd as value_usd,
    is_first_order
from {{ ref('int_orders') }}
where person_id is not null
union all
select
    'sign_up:' || person_id,
    'sign_up',
    person_id,
    account_created_at,
    {{ utc_day('account_created_at') }},
    cast(0 as decimal(18, 2)),
    false
from {{ ref('int_sign_ups') }}
where is_told
