select topic, "partition" as partition_number, next_offset, watermark
from {{ source('pinned', 'pinned_progress') }}
