{# Fails on every combination of `columns` that has more than one row. Hashes find the few candidates: grouping all rows by
   texts would cost more. Where builds carry over, only rows whose `key` is in `touched` can be doubled since the build
   before, which tested the others: the rows that a versioned model of that name made, or a pinned table. #}
{% test one_row_per(model, columns, key=none, touched=none) %}
{%- set hashed = 'hash(' ~ columns | join(', ') ~ ')' -%}
{%- set among -%}
{% if touched and carries_over() %}
{{ key }} in (select {{ key }} from {% if touched.startswith('pinned_') %}{{ source('pinned', touched) }}{% else %}{{ made_now(touched) }}{% endif %})
{% else %}
true
{% endif %}
{%- endset -%}
with again as (
    select {{ hashed }} as hashed from {{ model }} where {{ among }} group by hashed having count(*) > 1
)

select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
where {{ among }} and {{ hashed }} in (from again)
group by all
having count(*) > 1
{% endtest %}
