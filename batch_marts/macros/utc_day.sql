{# The UTC day of a time. A cast of what has a time zone asks for the calendar of each value, and takes sixteen times as long. #}
{% macro utc_day(time) -%}
cast(make_timestamp(epoch_us({{ time }})) as date)
{%- endmacro %}
