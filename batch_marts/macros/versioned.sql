{# A table whose rows are shared by builds. The model says which rows to make, of a full build all. A build that carries
   over ends those whose `key` is in `ended_in`, a relation of the build (as `ended_key`, if it has another name there), and
   adds what it makes; if that says their `day`, too, rows of other days are not looked at. Each build shows its own by a view.
   Rows are only ever added and ended, so what the builds before it show does not change. #}
{% materialization versioned, adapter='duckdb' %}
    {%- set shown = this.incorporate(type='view') -%}
    {%- set rows = rows_of(this.identifier) -%}
    {%- set build = var('build_id') -%}
    {%- set key, day = config.require('key'), config.get('day') -%}
    {%- set ended = this.include(identifier=false) ~ '.' ~ adapter.quote(config.require('ended_in')) -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% call statement('main') -%}
        {% if config.get('contract').enforced %}{{ get_assert_columns_equivalent(sql) }}{% endif %}
        {% if carries_over() %}
        update {{ rows }} set to_build = {{ build }}
        where to_build is null
            and {{ key }} in (select {{ config.get('ended_key', key) }} from {{ ended }})
            {%- if day %}
            and {{ day }} in (select {{ day }} from {{ ended }})
            {%- endif %};
        insert into {{ rows }} by name
        {% else %}
        create table {{ rows }} as
        {% endif %}
        select *, {{ build }}::integer as from_build, null::integer as to_build from (
            {{ sql }}
        );
        create view {{ shown }} as
        select * exclude (from_build, to_build) from {{ rows }}
        where from_build <= {{ build }} and (to_build is null or to_build > {{ build }});
    {%- endcall %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [shown]}) }}
{% endmaterialization %}
