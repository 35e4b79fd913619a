-- Who had sessions on which day. A day of which no session changed stays as it was.
{{ config(materialized='versioned', key='session_date', ended_in='pinned_ended_sessions') }}
select session_date, person_id, count(*) as session_count
from {{ ref('int_sessions') }}
{% if carries_over() -%}
where session_date in (select session_date from {{ source('pinned', 'pinned_ended_sessions') }})
{% endif -%}
group by all
