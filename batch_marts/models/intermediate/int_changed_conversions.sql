-- Conversions that the build before did not have, or not so, or not with these visits; and those that it had alone.
-- depends_on: {{ ref('int_sessions') }}
{% if carries_over() %}
{%- set before = adapter.quote(var('previous_build')) -%}
with visits as (
    select person_id, started_at from {{ made_now('int_sessions') }}
    union
    select person_id, started_at from {{ before }}.int_sessions
    where session_id in (select session_id from {{ source('pinned', 'pinned_ended_sessions') }})
      and session_date in (select session_date from {{ source('pinned', 'pinned_ended_sessions') }})
)

select conversion_id
from {{ ref('int_conversions') }} as now
full join {{ before }}.int_conversions as before using (conversion_id)
where {% for told in ('conversion_type', 'person_id', 'converted_at', 'conversion_date', 'value_usd', 'is_first_order') -%}
    now.{{ told }} is distinct from before.{{ told }}{{ ' or ' if not loop.last }}
    {%- endfor %}
union
select conversion_id
from {{ ref('int_conversions') }} as c
join visits on visits.person_id = c.person_id
    and visits.started_at between c.converted_at - interval {{ var('look_back_days') }} day and c.converted_at
{% else %}
select conversion_id from {{ ref('int_conversions') }} where false
{% endif %}
