-- By device first: to count distinct devices, or to look for the first session with all that it says, costs more.
with devices as (
    select
        person_id,
        anonymous_id,
        min(started_at) as first_seen_at,
        max(ended_at) as last_seen_at,
        count(*) as session_count
    from {{ ref('int_sessions') }}
    group by person_id, anonymous_id
),

people_seen as (
    select
        person_id,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at,
        cast(sum(session_count) as bigint) as session_count,
        count(*) as device_count
    from devices
    group by person_id
),

first_visits as (
    select
        sessions.person_id,
        arg_min({
            'device': sessions.anonymous_id, 'channel': sessions.channel, 'campaign_key': sessions.campaign_key
        }, sessions.first_message_id) as first_visit
    from {{ ref('int_sessions') }} as sessions
    join people_seen
        on people_seen.person_id = sessions.person_id and people_seen.first_seen_at = sessions.started_at
    group by sessions.person_id
),

visits as (
    select
        people_seen.*,
        first_visit.device as first_device,
        first_visit.channel as first_channel,
        first_visit.campaign_key as first_campaign_key
    from people_seen
    join first_visits using (person_id)
),

orders as (
    select
        person_id,
        min(ordered_at) as first_ordered_at,
        count(*) as order_count,
        sum(revenue_usd) as revenue_usd
    from {{ ref('int_orders') }}
    group by person_id
),

people as (
    select person_id from visits
    union
    select person_id from orders where person_id is not null
    union
    select person_id from {{ ref('int_sign_ups') }}
)

select
    people.person_id,
    case when people.person_id not like 'anon:%' then people.person_id end as customer_id,
    case
        when people.person_id like 'anon:%' then people.person_id
        when visits.first_seen_at < coalesce(sign_ups.account_created_at, 'infinity') then 'anon:' || visits.first_device
    end as prospect_id,
    people.person_id not like 'anon:%' as is_customer,
    visits.first_seen_at,
    visits.last_seen_at,
    sign_ups.account_created_at,
    orders.first_ordered_at,
    coalesce(visits.first_channel, 'none') as first_channel,
    coalesce(visits.first_campaign_key, {{ campaign_key("'none'", "'(none)'") }}) as first_campaign_key,
    coalesce(visits.device_count, 0) as device_count,
    coalesce(visits.session_count, 0) as session_count,
    coalesce(orders.order_count, 0) as order_count,
    cast(coalesce(orders.revenue_usd, 0) as decimal(18, 2)) as revenue_usd
from people
left join visits using (person_id)
left join orders using (person_id)
left join {{ ref('int_sign_ups') }} as sign_ups using (person_id)
