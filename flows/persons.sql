-- The batch definition of persons: whose each session of a share of the devices is, by all that is known. DESIGN:
-- identity rules 2 to 6, 8.
--
-- Parameters: look_back (interval), within (microseconds) and users_of_device; share and shares, for a part of the
-- devices at a time.
-- Tables given besides those of the stream: share_sessions, illegal_users(user_id), illegal_devices(anonymous_id),
-- telling_events, the stored events that carry a user or are logouts (is_logout), and held_links(user_id, anonymous_id).

with facts as (
    -- A logout that carries a user is that user's claim, and then the end of it.
    select anonymous_id, event_at, message_id, 0 as place, user_id from telling_events
    where user_id is not null and user_id not in (select user_id from illegal_users)
      and hash(anonymous_id) % $shares::ubigint = $share::ubigint
    union all
    select anonymous_id, event_at, message_id, 2, null from telling_events
    where is_logout and hash(anonymous_id) % $shares::ubigint = $share::ubigint
    union all
    -- What no stored event tells: aliases, and what is kept of users who were forgotten.
    select anonymous_id, event_at, message_id, if(user_id is null, 2, 0), user_id from stream.identity_facts
    anti join (select anonymous_id, message_id from stream.identity_verdicts where verdict = 'refused')
        using (anonymous_id, message_id)
    where kind in ('alias', 'forgotten') and hash(anonymous_id) % $shares::ubigint = $share::ubigint
),
told as (
    select * from facts
    where anonymous_id not in (select anonymous_id from illegal_devices)
      and anonymous_id in (select anonymous_id from share_sessions where user_id is null)
),
-- More users within a week than may be: who counts is whoever claimed it in the week up to each claim.
shared as (
    select distinct anonymous_id from (
        select anonymous_id, count(distinct user_id) over (
            partition by anonymous_id order by epoch_us(event_at) range between $within preceding and current row
        ) as users
        from told where user_id is not null and anonymous_id in (
            select anonymous_id from told group by anonymous_id having count(distinct user_id) > $users_of_device
        )
    ) where users > $users_of_device
),
in_order as (
    -- Of each fact, when it was and whom it tells of: '' of nobody, by a logout.
    select anonymous_id, event_at, message_id, place, event_at as fact_at, coalesce(user_id, '') as fact_user,
        null as session_id
    from told
    union all
    select anonymous_id, started_at, first_message_id, 1, null, null, session_id
    from share_sessions where user_id is null and anonymous_id in (select anonymous_id from told)
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
select session_id, coalesce(user_id, 'anon:' || anonymous_id) as person_id
from share_sessions where user_id is not null or anonymous_id not in (select anonymous_id from told)
union all
select session_id, case
    when owner is null or exists (from held_links h where h.user_id = owner and h.anonymous_id = p.anonymous_id)
    then 'anon:' || anonymous_id else owner end
from (
    select session_id, anonymous_id, coalesce(nullif(user_before, ''),
        case when coming_at - event_at <= $look_back and anonymous_id not in (select anonymous_id from shared)
        then nullif(coming_user, '') end) as owner
    from placed
) p
