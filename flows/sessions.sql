-- The batch definition: sessions as a function of the stored events and the rules. DESIGN: session rules 1 to 7, 9, 11, 13.
--
-- Parameters: gap and cap (microseconds), logout_events (list), at_midnight and on_campaign (booleans), by_library
-- (boolean: whether library_gaps holds any); share and shares, for a part of the devices at a time.
-- Tables given besides stream.events: illegal_users(user_id), users that count as none, and
-- library_gaps(library, gap), what replaces the gap where an event's library is named.
-- Times are microseconds in between, and days are counted from the year 1: intervals and date_trunc are slow.

with recursive
active as (
    select e.anonymous_id, e.message_id, epoch_us(e.event_at) as moment,
        (epoch_us(e.event_at) + 62135596800000000) // 86400000000 as day, e.path, e.referrer, e.utm_source,
        e.utm_medium, e.utm_campaign, e.device_type, e.browser, e.os, e.is_bot, e."partition",
        coalesce(g.gap, $gap) as gap, e.type = 'page' as is_page, e.name in (select unnest($logout_events)) as is_logout,
        case when e.user_id not in (select user_id from illegal_users) then e.user_id end as user_id,
        case when $on_campaign and coalesce(e.utm_source, e.utm_medium, e.utm_campaign) is not null
            then concat_ws(chr(31), coalesce(e.utm_source, ''), coalesce(e.utm_medium, ''), coalesce(e.utm_campaign, ''))
            end as campaign
    from stream.events e
    left join library_gaps g on g.library = case when $by_library then e.context->>'$.library.name' end
    where e.anonymous_id is not null and not e.is_background and hash(e.anonymous_id) % $shares = $share
),
in_order as (
    select *, row_number() over arrival as n, lag(moment) over arrival as earlier, lag(day) over arrival as earlier_day,
        lag(is_logout) over arrival as after_logout
    from active
    window arrival as (partition by anonymous_id order by moment, message_id)
),
-- What depends on two neighbours alone cuts a device into stretches.
hard as (
    select *, moment - earlier > gap as after_gap, coalesce(day <> earlier_day, false) as after_midnight,
        earlier is null or after_logout or moment - earlier > gap or ($at_midnight and day <> earlier_day) as is_hard
    from in_order
),
stretched as (
    select *, sum(is_hard::int) over (partition by anonymous_id order by n) as stretch from hard
),
-- The rest depends on what the session knows already: each start decides where the next one is.
unsure as (
    select anonymous_id, stretch from stretched group by all
    having max(moment) - min(moment) > $cap or count(distinct user_id) > 1
        or ($on_campaign and count(distinct campaign) > 1)
),
doubtful as (select s.* from stretched s semi join unsure using (anonymous_id, stretch)),
starts as (
    select anonymous_id, stretch, min(n) as n from doubtful group by all
    union all
    select s.anonymous_id, s.stretch, min(d.n)
    from (
        select s.anonymous_id, s.stretch, s.n, arg_min(d.moment, d.n) as started, arg_min(d.user_id, d.n) as user_id,
            arg_min(d.campaign, d.n) as campaign
        from starts s join doubtful d using (anonymous_id, stretch)
        where d.n >= s.n
        group by all
    ) s
    join doubtful d using (anonymous_id, stretch)
    where d.n > s.n
      and (d.moment - s.started > $cap or d.user_id <> s.user_id or ($on_campaign and d.campaign <> s.campaign))
    group by all
),
in_sessions as (
    select s.*, 0 as part from stretched s anti join unsure using (anonymous_id, stretch)
    union all
    select d.*, max(s.n) over (partition by d.anonymous_id order by d.n)
    from doubtful d left join starts s using (anonymous_id, n)
),
grouped as (
    select anonymous_id, min(n) as first_n,
        arg_min(user_id, n) as user_id,
        min(moment) as started, max(moment) as ended,
        count(*) as event_count, count(*) filter (is_page) as page_count,
        arg_min(path, n) as entry_path, arg_max(path, n) as exit_path,
        arg_min({'is': referrer}, n) filter (path is not null or referrer is not null)['is'] as referrer,
        arg_min({'source': utm_source, 'medium': utm_medium, 'campaign': utm_campaign}, n)
            filter (coalesce(utm_source, utm_medium, utm_campaign) is not null) as utm,
        arg_min({'type': device_type, 'browser': browser, 'os': os}, n)
            filter (coalesce(device_type, browser, os) is not null) as device,
        bool_or(is_bot) as is_bot,
        arg_min(message_id, n) as first_message_id, arg_max(message_id, n) as last_message_id,
        arg_max(is_logout, n) as ends_in_logout,
        arg_min({'user': user_id}, n)['user'] as first_user,
        arg_min(after_gap, n) as after_gap, arg_min(after_midnight, n) as after_midnight,
        arg_max("partition", n) as "partition"
    from in_sessions group by anonymous_id, stretch, part
),
reasoned as (
    select *, case
        when lag(first_n) over before is null then 'first'
        when lag(ends_in_logout) over before then 'logout'
        when first_user <> lag(user_id) over before then 'user_switch'
        when after_gap then 'gap'
        when started - lag(started) over before > $cap then 'cap'
        when $at_midnight and after_midnight then 'midnight'
        else 'campaign' end as start_reason
    from grouped
    window before as (partition by anonymous_id order by first_n)
)
select left(sha256(anonymous_id || chr(31) || first_message_id), 32) as session_id, anonymous_id, user_id,
    make_timestamptz(started) as started_at, make_timestamptz(ended) as ended_at, event_count, page_count,
    entry_path, exit_path, referrer,
    utm.source as utm_source, utm.medium as utm_medium, utm.campaign as utm_campaign,
    device.type as device_type, device.browser as browser, device.os as os, start_reason,
    coalesce(lead(start_reason) over after, case when ends_in_logout then 'logout' end) as end_reason,
    is_bot, first_message_id, last_message_id, "partition"
from reasoned
window after as (partition by anonymous_id order by first_n)
