{# Fails on every combination of `columns` that has more than one row. Hashes find the few candidates: grouping all rows by
   texts would cost more. Where builds carry over, only rows whose `key` is in `touched` can be doubled since the build
   before, which tested the others: the rows that a versioned model of that name made, or a pinned table. #}
{% test one_row_per(model, columns, key=none, touched=none) %}
{%- if touched and carries_over() %}
select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
where {{ key }} in (select {{ key }} from {% if touched.startswith('pinned_') %}{{ source('pinned', touched) }}{% else %}{{ made_now(touched) }}{% endif %})
{%- else %}
{%- set hashed = 'hash(' ~ columns | join(', ') ~ ')' %}
select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
where {{ hashed }} in (select {{ hashed }} from {{ model }} group by all having count(*) > 1)
{%- endif %}
group by all
having count(*) > 1
{% endtest %}
