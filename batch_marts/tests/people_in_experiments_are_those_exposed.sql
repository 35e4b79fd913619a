-- Who is counted or left out = who was exposed, by the stream's events; and every interval is around its figure.
{{ config(tags=['business'], meta={'says': 'more or fewer people are in an experiment than were exposed to it, or a figure is out of bounds'}) }}
with told as (
    select experiment_id, metric_name, sum(persons) + any_value(persons_in_several) + any_value(persons_elsewhere) as persons
    from {{ ref('mart_experiment_results') }}
    group by all
),

bounds as (
    select distinct experiment_id, start_at, end_at from {{ source('pinned', 'pinned_experiments') }}
),

exposed as (
    select bounds.experiment_id, count(distinct e.person_id) as persons
    from bounds
    left join {{ ref('int_events') }} as e
        on e.event_name = 'Experiment Viewed'
        and json_extract_string(e.properties, '$.experiment_id') = bounds.experiment_id
        and e.event_at >= coalesce(bounds.start_at, '-infinity') and e.event_at < coalesce(bounds.end_at, 'infinity')
    group by all
)

select experiment_id, metric_name as what, exposed.persons as expected, told.persons as found
from exposed
full join told using (experiment_id)
where exposed.persons is distinct from told.persons
union all
select experiment_id, metric_name || ' of ' || variation_id, lift, coalesce(lift_low, mean)
from {{ ref('mart_experiment_results') }}
where (metric_kind = 'conversion' and mean not between 0 and 1)
   or lift not between lift_low and lift_high
   or lift_low < sequential_low
   or lift_high > sequential_high
   or is_control <> (verdict is null)
