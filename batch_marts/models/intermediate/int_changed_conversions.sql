-- Conversions that the build before did not have, or not so, or not with these visits; and those that it had alone.
-- depends_on: {{ ref('int_sessions') }}
{% if carries_over() %}
{%- set before = adapter.quote(var('previous_build')) -%}
with visits as (
    select person_id, started_at from {{ made_now('int_sessions') }}
    union
    select person_id, started_at from {{ before }}.int_sessions
    where session_id in (select session_id from {{ source('pinned', 'pinned_ended_sessions') }})
)

select conversion_id from (from {{ ref('int_conversions') }} except from {{ before }}.int_conversions)
union
select conversion_id from (from {{ before }}.int_conversions except from {{ ref('int_conversions') }})
union
select conversion_id
from {{ ref('int_conversions') }} as c
join visits on visits.person_id = c.person_id
    and visits.started_at between c.converted_at - interval {{ var('look_back_days') }} day and c.converted_at
{% else %}
select conversion_id from {{ ref('int_conversions') }} where false
{% endif %}
