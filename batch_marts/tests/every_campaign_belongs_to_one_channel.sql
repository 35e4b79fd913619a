{{ config(tags=['business'], meta={'says': 'two campaigns of one name in one channel have different keys'}) }}
select channel, campaign_name, count(distinct campaign_key) as keys
from {{ ref('dim_campaign') }}
group by all
having count(distinct campaign_key) <> 1
