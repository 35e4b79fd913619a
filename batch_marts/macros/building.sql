{# All of a build is in one schema. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ target.schema }}
{%- endmacro %}

{# Whether days that nothing happened to are carried over from the build before. #}
{% macro carries_over() -%}
    {{ return(var('previous_build', none) is not none) }}
{%- endmacro %}

{# The rows of a model's table in the build before, of days that nothing happened to since; followed by `union all`. #}
{% macro carried_over(day, is_kept='true') -%}
{% if carries_over() %}
select * from {{ adapter.quote(var('previous_build')) }}.{{ adapter.quote(model.name) }}
where {{ day }} not in (select changed_day from {{ source('pinned', 'pinned_changed_days') }}) and {{ is_kept }}
union all
{% endif %}
{%- endmacro %}

{# A condition: this day has to be worked out. With the `time` that it is the day of, older rows need not be read. #}
{% macro is_changed_day(day, time=none) -%}
{% if carries_over() %}
{{ day }} in (select changed_day from {{ source('pinned', 'pinned_changed_days') }})
{% if time %}and {{ time }} >= timestamptz '{{ var('changed_since') }} 00:00:00+00'{% endif %}
{%- else -%}
true
{%- endif %}
{%- endmacro %}

{# The table that holds a versioned model's rows, of all builds that share it: those of one build are the rows whose
   from_build is at most its number, and whose to_build is greater, or null. #}
{% macro rows_of(name) -%}
{{ adapter.quote(var('rows_schema', 'rows')) }}.{{ adapter.quote(name) }}
{%- endmacro %}

{# Of a versioned model, the rows that this build made. #}
{% macro made_now(name) -%}
(select * from {{ rows_of(name) }} where from_build = {{ var('build_id', 0) }})
{%- endmacro %}
