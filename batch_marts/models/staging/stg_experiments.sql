select *
from {{ source('pinned', 'pinned_experiments') }}
