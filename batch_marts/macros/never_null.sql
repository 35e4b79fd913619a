{# Fails on every row in which one of `columns` is null, and says in `null_in` which are. Where builds carry over, of a table
   whose rows are numbered by `appended` and never change, only those are looked at that came since the build before. #}
{% test never_null(model, columns, appended=none) %}
select
    concat_ws(', ', {% for column in columns %}case when {{ column }} is null then '{{ column }}' end{{ ', ' if not loop.last }}{% endfor %}) as null_in,
    *
from {{ model }}
where ({% for column in columns %}{{ column }} is null{{ ' or ' if not loop.last }}{% endfor %})
{%- if appended and carries_over() %}
  and {{ appended }} >= {{ var('first_row') }}
{%- endif %}

{% endtest %}
