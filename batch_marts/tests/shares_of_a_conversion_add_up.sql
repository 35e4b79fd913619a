{{ config(tags=['business'], meta={'says': 'the shares of a conversion do not add up to the whole'}) }}
-- A conversion's rows are made all at once, so those of the builds before have been tested.
-- depends_on: {{ ref('fct_conversions') }}
select
    conversion_id,
    sum(first_touch) as first_touch,
    sum(last_touch) as last_touch,
    sum(linear) as linear,
    sum(position_based) as position_based,
    sum(time_decay) as time_decay
from {% if carries_over() %}{{ made_now('fct_conversions') }}{% else %}{{ ref('fct_conversions') }}{% endif %}
group by conversion_id
having abs(sum(first_touch) - 1) > 1e-9
    or abs(sum(last_touch) - 1) > 1e-9
    or abs(sum(linear) - 1) > 1e-9
    or abs(sum(position_based) - 1) > 1e-9
    or abs(sum(time_decay) - 1) > 1e-9
