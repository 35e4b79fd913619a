-- As many sessions as the stream has, and nobody with more a day than a person can have.
{{ config(tags=['business'], meta={'says': 'there are more or fewer sessions than the stream has, or more than a person can have'}) }}
with mart as (
    select session_date, count(*) as sessions from {{ ref('fct_sessions') }} group by all
),

stream as (
    select session_date, session_count as sessions from {{ source('pinned', 'pinned_session_days') }}
    where session_count > 0
)

select 'day' as what, cast(session_date as varchar) as which, stream.sessions as expected, mart.sessions as found
from stream
full join mart using (session_date)
where stream.sessions is distinct from mart.sessions
union all
select 'person', person_id || ' on ' || session_date, {{ var('max_sessions_per_person_and_day') }}, count(*)
from {{ ref('fct_sessions') }}
{% if carries_over() %}where session_date in (select session_date from {{ made_now('int_sessions') }}){% endif %}
group by person_id, session_date
having count(*) > {{ var('max_sessions_per_person_and_day') }}
