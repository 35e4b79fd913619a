{# A value as SQL has it. #}
{% macro text(value) -%}
'{{ value | replace("'", "''") }}'
{%- endmacro %}
