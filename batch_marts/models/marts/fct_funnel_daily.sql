{{ carried_over('entry_date', "entry_date < (select funnels_from from " ~ source('pinned', 'pinned_moment') ~ ")") }}
select
    entry_date,
    funnel_name,
    step_number,
    step_name,
    subject_count,
    coalesce(subject_count / nullif(first_value(subject_count) over steps, 0), 0) as conversion_from_start
from {{ ref('stg_funnel_days') }}
window steps as (partition by entry_date, funnel_name order by step_number)
