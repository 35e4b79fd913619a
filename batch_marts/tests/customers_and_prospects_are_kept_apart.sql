{{ config(tags=['business'], meta={'says': 'a person is customer and prospect by the wrong keys, or ordered before being seen at all'}) }}
select person_id, customer_id, prospect_id
from {{ ref('dim_person') }}
where is_customer <> (customer_id is not null)
   or (customer_id is null and prospect_id is distinct from person_id)
   or customer_id like 'anon:%'
   or prospect_id not like 'anon:%'
