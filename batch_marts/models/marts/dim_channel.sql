select channel, platform, is_paid, description
from {{ ref('channels') }}
