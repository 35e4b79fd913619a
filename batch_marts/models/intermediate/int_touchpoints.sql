-- Visits that may have led to a conversion that is made anew, of the people who have it; and which of the person's each is.
-- depends_on: {{ ref('int_changed_conversions') }}
{{ config(materialized='view') }}
select
    person_id,
    session_id,
    started_at,
    channel,
    campaign_key,
    row_number() over (partition by person_id order by started_at, session_id) as visit_number
from {{ ref('int_sessions') }}
where person_id in (
    select person_id from {{ ref('int_conversions') }}
    {% if carries_over() %}where conversion_id in (select conversion_id from {{ ref('int_changed_conversions') }}){% endif %}
)
