-- One row for each experiment, person and metric. Before it stand the CTEs
--   experiment_settings(experiment_id, start_at, end_at, metric_name, event_name, sum_path, once_path), a row a metric;
--   exposures(experiment_id, variation_id, person_id, event_at);
--   metric_events(person_id, name, event_at, properties), at least the events that the settings name.
-- variation_id is null for who was seen in several, and '' where the events do not say it.
with people as (
    select
        e.experiment_id,
        e.person_id,
        case when count(distinct coalesce(e.variation_id, '')) = 1 then any_value(coalesce(e.variation_id, '')) end
            as variation_id,
        min(e.event_at) as exposed_at
    from exposures as e
    join (select distinct experiment_id, start_at, end_at from experiment_settings) as s
        on s.experiment_id = e.experiment_id
        and (s.start_at is null or e.event_at >= s.start_at)
        and (s.end_at is null or e.event_at < s.end_at)
    where e.person_id is not null
    group by e.experiment_id, e.person_id
),

told as (
    select
        p.experiment_id,
        p.person_id,
        s.metric_name,
        m.event_at >= p.exposed_at as is_after,
        try_cast(json_extract_string(m.properties, s.sum_path) as decimal(18, 4)) as amount
    from people as p
    join experiment_settings as s on s.experiment_id = p.experiment_id
    join metric_events as m
        on m.person_id = p.person_id
        and m.name = s.event_name
        and m.event_at >= p.exposed_at - interval 14 day
        and (s.end_at is null or m.event_at < s.end_at)
    qualify json_extract_string(m.properties, s.once_path) is null or row_number() over (
        partition by p.experiment_id, p.person_id, s.metric_name, json_extract_string(m.properties, s.once_path)
        order by m.event_at, amount desc
    ) = 1
),

summed as (
    select
        experiment_id,
        person_id,
        metric_name,
        max(1) filter (is_after) as is_there,
        max(1) filter (not is_after) as was_there,
        sum(amount) filter (is_after) as amount,
        sum(amount) filter (not is_after) as earlier_amount
    from told
    group by all
)

select
    p.experiment_id,
    p.person_id,
    p.variation_id,
    p.exposed_at,
    s.metric_name,
    cast(coalesce(if(s.sum_path is null, is_there, amount), 0) as double) as value,
    cast(coalesce(if(s.sum_path is null, was_there, earlier_amount), 0) as double) as earlier_value
from people as p
join experiment_settings as s on s.experiment_id = p.experiment_id
left join summed as t
    on t.experiment_id = p.experiment_id and t.person_id = p.person_id and t.metric_name = s.metric_name
