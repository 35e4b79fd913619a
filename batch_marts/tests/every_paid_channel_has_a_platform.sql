{{ config(tags=['business'], meta={'says': 'ads are paid for on a platform that has no paid channel'}) }}
select distinct spend.platform
from {{ ref('stg_ad_spend') }} as spend
left join {{ ref('dim_channel') }} as channels on channels.channel = spend.platform and channels.is_paid
where channels.channel is null
