-- As many sessions as the stream has, and nobody with more a day than a person can have.
{{ config(tags=['business'], meta={'says': 'there are more or fewer sessions than the stream has, or more than a person can have'}) }}
with mart as (
    select session_date, count(*) as sessions from {{ ref('fct_sessions') }} group by all
),

stream as (
    select session_date, count(*) as sessions
    from {{ ref('stg_sessions') }}
    where not is_bot and anonymous_id not in (from {{ ref('stg_bot_devices') }})
    group by all
)

select 'day' as what, cast(session_date as varchar) as which, stream.sessions as expected, mart.sessions as found
from stream
full join mart using (session_date)
where stream.sessions is distinct from mart.sessions
union all
select 'person', person_id || ' on ' || session_date, {{ var('max_sessions_per_person_and_day') }}, count(*)
from {{ ref('fct_sessions') }}
group by person_id, session_date
having count(*) > {{ var('max_sessions_per_person_and_day') }}
