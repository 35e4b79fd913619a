{# Joins what became known of the person of a row since it was committed; `key` is null where the row has a user of its
   own. One plain key: an `or` in the condition would make this a nested loop. #}
{% macro join_persons(row, key, at, message_id) -%}
left join {{ ref('stg_person_overrides') }} as o
    on o.anonymous_id = {{ key }}
    and ({{ row }}.{{ at }}, {{ row }}.{{ message_id }}) >= (o.from_at, o.from_message_id)
    and ({{ row }}.{{ at }}, {{ row }}.{{ message_id }}) < (o.to_at, o.to_message_id)
left join {{ ref('stg_person_merges') }} as m on m.person_id = coalesce(o.person_id, {{ row }}.committed_person_id)
{%- endmacro %}

{# Whose such a row is, by all that is known. #}
{% macro person_of(row) -%}
coalesce(m.merged_into, o.person_id, {{ row }}.committed_person_id)
{%- endmacro %}
