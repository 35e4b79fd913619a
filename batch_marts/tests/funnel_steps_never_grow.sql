{{ config(tags=['business'], meta={'says': 'a step of a funnel is reached by more than the step before it'}) }}
select *
from (
    select *, lag(subject_count) over (partition by entry_date, funnel_name order by step_number) as before
    from {{ ref('fct_funnel_daily') }}
)
where subject_count > before
