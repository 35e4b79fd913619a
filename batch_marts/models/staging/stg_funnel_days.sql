select funnel_name, step_number, step_name, entry_date, subject_count
from {{ source('pinned', 'pinned_funnel_days') }}
