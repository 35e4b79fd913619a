{# Fails on every row in which one of `columns` is null, and says in `null_in` which are. #}
{% test never_null(model, columns) %}
select
    concat_ws(', ', {% for column in columns %}case when {{ column }} is null then '{{ column }}' end{{ ', ' if not loop.last }}{% endfor %}) as null_in,
    *
from {{ model }}
where {% for column in columns %}{{ column }} is null{{ ' or ' if not loop.last }}{% endfor %}

{% endtest %}
