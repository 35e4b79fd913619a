select user_id, claimed_at, anonymous_id
from {{ source('pinned', 'pinned_claims') }}
