-- The batch definition: sessions as a function of the stored events and the rules. DESIGN: session rules 1 to 7, 9, 11, 13.
--
-- Parameters: gap and cap (microseconds), logout_events (list), at_midnight and on_campaign (booleans), by_library
-- (boolean: whether library_gaps holds any); share and shares, for a part of the devices at a time.
-- Tables given besides stream.events: illegal_users(user_id), users that count as none, and
-- library_gaps(library, gap), what replaces the gap where an event's library is named.
-- Times are microseconds in between, and days are counted from the year 1: intervals and date_trunc are slow.

with recursive
active as (
    select e.anonymous_id, e.message_id, epoch_us(e.event_at) as moment, e.path, e.referrer, e.utm_source, e.utm_medium,
        e.utm_campaign, e.device_type, e.browser, e.os, e.is_bot, e."partition", e.type = 'page' as is_page,
        e.name in (select unnest($logout_events)) as is_logout,
        case when e.user_id not in (select user_id from illegal_users) then e.user_id end as user_id, g.gap
    from stream.events e
    left join library_gaps g on g.library = case when $by_library then e.context->>'$.library.name' end
    where e.anonymous_id is not null and not e.is_background and hash(anonymous_id) % $shares::ubigint = $share::ubigint
),
-- Devices need to be together, in any order: a number is compared sooner than a text.
in_order as (select * from active order by hash(anonymous_id), anonymous_id, moment, message_id),
-- Windows without an order of their own see the rows as they come, and cost next to nothing.
beside as (
    select *, row_number() over () as n, lag(moment) over () as earlier, lag(is_logout) over () as after_logout,
        coalesce(lag(anonymous_id) over () = anonymous_id, false) as goes_on,
        coalesce(utm_source, utm_medium, utm_campaign) is not null as has_utm,
        coalesce(device_type, browser, os) is not null as has_device,
        case when $on_campaign and coalesce(utm_source, utm_medium, utm_campaign) is not null
            then concat_ws(chr(31), coalesce(utm_source, ''), coalesce(utm_medium, ''), coalesce(utm_campaign, ''))
            end as campaign
    from in_order
),
-- What depends on two neighbours alone cuts a device into stretches.
hard as (
    select *, goes_on and moment - earlier > coalesce(gap, $gap) as after_gap,
        goes_on and (moment + 62135596800000000) // 86400000000 <> (earlier + 62135596800000000) // 86400000000
            as after_midnight
    from beside
),
stretched as (
    select *, sum((not goes_on or after_logout or after_gap or ($at_midnight and after_midnight))::int) over (
        rows between unbounded preceding and current row) as stretch
    from hard
),
-- The rest depends on what the session knows already: each start decides where the next one is.
unsure as (
    select stretch from stretched group by all
    having max(moment) - min(moment) > $cap or count(distinct user_id) > 1
        or ($on_campaign and count(distinct campaign) > 1)
),
doubtful as (select s.* from stretched s semi join unsure using (stretch)),
starts as (
    select stretch, min(n) as n from doubtful group by all
    union all
    select s.stretch, min(d.n)
    from (
        select s.stretch, s.n, arg_min(d.moment, d.n) as started, arg_min(d.user_id, d.n) as user_id,
            arg_min(d.campaign, d.n) as campaign
        from starts s join doubtful d using (stretch)
        where d.n >= s.n
        group by all
    ) s
    join doubtful d using (stretch)
    where d.n > s.n
      and (d.moment - s.started > $cap or d.user_id <> s.user_id or ($on_campaign and d.campaign <> s.campaign))
    group by all
),
in_sessions as (
    select s.*, 0 as part from stretched s anti join unsure using (stretch)
    union all
    select d.*, max(s.n) over (order by d.n)
    from doubtful d left join starts s using (n)
),
grouped as (
    select any_value(anonymous_id) as anonymous_id, min(n) as first_n,
        arg_min(user_id, n) as user_id,
        min(moment) as started, max(moment) as ended,
        count(*) as event_count, count(*) filter (is_page) as page_count,
        arg_min(path, n) as entry_path, arg_max(path, n) as exit_path,
        arg_min_null(referrer, n) filter (path is not null or referrer is not null) as referrer,
        arg_min_null(utm_source, n) filter (has_utm) as utm_source,
        arg_min_null(utm_medium, n) filter (has_utm) as utm_medium,
        arg_min_null(utm_campaign, n) filter (has_utm) as utm_campaign,
        arg_min_null(device_type, n) filter (has_device) as device_type,
        arg_min_null(browser, n) filter (has_device) as browser,
        arg_min_null(os, n) filter (has_device) as os,
        bool_or(is_bot) as is_bot,
        arg_min(message_id, n) as first_message_id, arg_max(message_id, n) as last_message_id,
        arg_max(is_logout, n) as ends_in_logout,
        arg_min_null(user_id, n) as first_user,
        arg_min(after_gap, n) as after_gap, arg_min(after_midnight, n) as after_midnight,
        arg_max("partition", n) as "partition"
    from in_sessions group by stretch, part
),
one_by_one as (select * from grouped order by first_n),
reasoned as (
    select *, case
        when lag(anonymous_id) over () is distinct from anonymous_id then 'first'
        when lag(ends_in_logout) over () then 'logout'
        when first_user <> lag(user_id) over () then 'user_switch'
        when after_gap then 'gap'
        when started - lag(started) over () > $cap then 'cap'
        when $at_midnight and after_midnight then 'midnight'
        else 'campaign' end as start_reason
    from one_by_one
)
select left(sha256(anonymous_id || chr(31) || first_message_id), 32) as session_id, anonymous_id, user_id,
    make_timestamptz(started) as started_at, make_timestamptz(ended) as ended_at, event_count, page_count,
    entry_path, exit_path, referrer,
    utm_source, utm_medium, utm_campaign, device_type, browser, os, start_reason,
    coalesce(case when lead(anonymous_id) over () = anonymous_id then lead(start_reason) over () end,
        case when ends_in_logout then 'logout' end) as end_reason,
    is_bot, first_message_id, last_message_id, "partition"
from reasoned
