-- Visits that may have led to a conversion.
select person_id, session_id, started_at, channel, campaign_key
from {{ ref('int_sessions') }}
