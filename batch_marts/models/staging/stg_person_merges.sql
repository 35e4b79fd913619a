select person_id, merged_into
from {{ source('pinned', 'pinned_merges') }}
