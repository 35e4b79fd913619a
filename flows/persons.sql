-- The batch definition of persons: whose each expected session is, by all that is known. DESIGN: identity rules 2 to 5, 8.
--
-- Parameters: logout_events (list), look_back (interval).
-- Tables given besides those of the stream: expected_sessions, illegal_users(user_id), and illegal_devices(anonymous_id).

with facts as (
    -- A logout that carries a user is that user's claim, and then the end of it.
    select anonymous_id, event_at, message_id, 0 as place, user_id from stream.events
    where anonymous_id is not null and user_id is not null and user_id not in (select user_id from illegal_users)
    union all
    select anonymous_id, event_at, message_id, 2, null from stream.events
    where anonymous_id is not null and name in (select unnest($logout_events))
    union all
    select anonymous_id, event_at, message_id, 0, user_id from stream.identity_facts
    anti join (select anonymous_id, message_id from stream.identity_verdicts where verdict = 'refused')
        using (anonymous_id, message_id)
    where kind = 'alias'
),
starts as (
    select anonymous_id, started_at as event_at, first_message_id as message_id, session_id
    from expected_sessions where user_id is null
),
in_order as (
    -- Of each fact, when it was and whom it tells of: '' of nobody, by a logout.
    select anonymous_id, event_at, message_id, place, event_at as fact_at, coalesce(user_id, '') as fact_user,
        null as session_id
    from facts semi join starts using (anonymous_id)
    where anonymous_id not in (select anonymous_id from illegal_devices)
    union all
    select anonymous_id, event_at, message_id, 1, null, null, session_id from starts
),
placed as (
    select session_id, anonymous_id, event_at,
        last_value(fact_user ignore nulls) over (
            device rows between unbounded preceding and current row) as user_before,
        first_value(fact_user ignore nulls) over (
            device rows between current row and unbounded following) as coming_user,
        first_value(fact_at ignore nulls) over (
            device rows between current row and unbounded following) as coming_at
    from in_order
    window device as (partition by anonymous_id order by event_at, message_id, place)
    qualify session_id is not null
)
select session_id, user_id as person_id from expected_sessions where user_id is not null
union all
select session_id, coalesce(nullif(user_before, ''),
    case when coming_at - event_at <= $look_back then nullif(coming_user, '') end, 'anon:' || anonymous_id)
from placed
