-- Each conversion with each visit in its look-back window, and how much of it the visit is given by each model.
with paths as (
    select
        c.conversion_id,
        c.conversion_type,
        c.person_id,
        c.converted_at,
        c.conversion_date,
        c.value_usd,
        c.is_first_order,
        t.session_id,
        t.started_at as touched_at,
        coalesce(t.channel, 'none') as channel,
        coalesce(t.campaign_key, {{ campaign_key("'none'", "'(none)'") }}) as campaign_key,
        row_number() over visits as touch_number,
        count(*) over whole as touch_count,
        case
            when t.session_id is null then 1.0
            else pow(2.0, -date_diff('microsecond', t.started_at, c.converted_at) / ({{ var('half_life_days') }} * 86400e6))
        end as decay
    from {{ ref('int_conversions') }} as c
    left join {{ ref('int_touchpoints') }} as t
        on t.person_id = c.person_id
        and t.started_at between c.converted_at - interval {{ var('look_back_days') }} day and c.converted_at
    window
        visits as (partition by c.conversion_id order by t.started_at, t.session_id),
        whole as (partition by c.conversion_id)
)

select
    conversion_id,
    conversion_type,
    person_id,
    conversion_date,
    converted_at,
    value_usd,
    is_first_order,
    session_id,
    touched_at,
    cast(touch_number as integer) as touch_number,
    cast(touch_count as integer) as touch_count,
    channel,
    campaign_key,
    cast(touch_number = 1 as double) as first_touch,
    cast(touch_number = touch_count as double) as last_touch,
    1.0e0 / touch_count as linear,
    case
        when touch_count = 1 then 1.0e0
        when touch_count = 2 then 0.5e0
        when touch_number in (1, touch_count) then 0.4e0
        else 0.2e0 / (touch_count - 2)
    end as position_based,
    cast(decay / sum(decay) over (partition by conversion_id) as double) as time_decay
from paths
