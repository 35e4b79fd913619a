-- A rate that was loaded from a file comes before the seed's of the same day.
select rate_date, currency, usd
from {{ source('marketing', 'currency_rates') }}
union all
select rate_date, currency, usd
from {{ ref('currency_rates') }}
anti join {{ source('marketing', 'currency_rates') }} using (rate_date, currency)
