select anonymous_id, person_id, from_at, from_message_id, to_at, to_message_id
from {{ source('pinned', 'pinned_overrides') }}
