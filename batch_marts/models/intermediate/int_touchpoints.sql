-- Visits that may have led to a conversion, of people who have one; and which of the person's each is.
select
    person_id,
    session_id,
    started_at,
    channel,
    campaign_key,
    row_number() over (partition by person_id order by started_at, session_id) as visit_number
from {{ ref('int_sessions') }}
where person_id in (select person_id from {{ ref('int_conversions') }})
