{# The name under which a model is shown. The first version has the model's own name, a later one ends with `_v2` and so on, as
   with metrics; what is there keeps its name when another version comes beside it. #}
{% macro generate_alias_name(custom_alias_name=none, node=none) -%}
{%- if custom_alias_name -%}
{{ custom_alias_name | trim }}
{%- elif node.version and node.version | string != '1' -%}
{{ node.name }}_v{{ node.version }}
{%- else -%}
{{ node.name }}
{%- endif -%}
{%- endmacro %}
