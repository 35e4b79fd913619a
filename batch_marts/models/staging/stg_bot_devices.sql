select distinct anonymous_id
from {{ source('pinned', 'pinned_bot_devices') }}
