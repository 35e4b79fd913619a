{# Fails on every combination of `columns` that has more than one row. Hashes find the few candidates: grouping all rows by
   texts would cost more. If a column has the `day` to which a row belongs, combinations of which nothing happened since the
   build before have been tested by that one. #}
{% test one_row_per(model, columns, day=none) %}
with hashes as (
    select hash({{ columns | join(', ') }}) as hashed{% if day %}, {{ day }} as day{% endif %} from {{ model }}
),

again as (
    select hashed from hashes
    {% if day and carries_over() -%}
    where hashed in (select hashed from hashes where {{ is_changed_day('day') }})
    {% endif -%}
    group by hashed having count(*) > 1
)

select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
where hash({{ columns | join(', ') }}) in (from again)
group by all
having count(*) > 1
{% endtest %}
