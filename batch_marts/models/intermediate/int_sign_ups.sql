-- When each person's account was created: the sign-up event, else the first claim of a device.
with told as (
    select person_id, min(event_at) as at
    from {{ ref('int_events') }}
    where event_name = {{ text(var('sign_up_event')) }} and event_type = 'track' and person_id not like 'anon:%'
    group by person_id
),

claimed as (
    select coalesce(m.merged_into, c.user_id) as person_id, min(c.claimed_at) as at
    from {{ ref('stg_claims') }} as c
    left join {{ ref('stg_person_merges') }} as m on m.person_id = c.user_id
    group by 1
)

select
    person_id,
    coalesce(told.at, claimed.at) as account_created_at,
    told.at is not null as is_told
from told
full join claimed using (person_id)
