{# Fails on every combination of `columns` that has more than one row. Hashes find the few candidates: grouping all rows by
   texts would cost more. Where builds carry over, only rows whose `key` is in `touched` can be doubled since the build
   before, which tested the others: the rows that a versioned model of that name made, or a pinned table. Of what such a
   model made, that is what it made twice, or did not end before: what it ended is in `ended_in`, as in its configuration. #}
{% test one_row_per(model, columns, key=none, touched=none, ended_in=none) %}
{%- if touched and carries_over() %}
select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
where {{ key }} in (
    {%- if touched.startswith('pinned_') %}
    select {{ key }} from {{ source('pinned', touched) }}
    {%- else %}
    select {{ key }} from {{ made_now(touched) }} group by {{ key }}, {{ columns | join(', ') }} having count(*) > 1
    union all
    select {{ key }} from {{ made_now(touched) }}
    where {{ key }} not in (select {{ key }} from {{ model.include(identifier=false) }}.{{ adapter.quote(ended_in) }})
    {%- endif %}
)
{%- else %}
{%- set hashed = 'hash(' ~ columns | join(', ') ~ ')' %}
select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
where {{ hashed }} in (select {{ hashed }} from {{ model }} group by all having count(*) > 1)
{%- endif %}
group by all
having count(*) > 1
{% endtest %}
