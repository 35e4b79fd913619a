{# Where a visit came from: the name of a row of dim_channel. #}
{% macro channel_of(platform, utm_source, utm_medium, referrer_kind, linking_host) -%}
case
    when {{ utm_medium }} is not null and regexp_matches(lower({{ utm_medium }}), '^(.*cp[acmv]|ppc|paid.*|display|retargeting|ads?)$')
        then coalesce({{ platform }}, 'other_paid')
    when lower({{ utm_medium }}) in ('email', 'e-mail', 'newsletter') or lower({{ utm_source }}) in ('email', 'newsletter')
        then 'email'
    when lower({{ utm_medium }}) in ('affiliate', 'affiliates', 'partner') then 'affiliate'
    when lower({{ utm_medium }}) in ('organic') or ({{ utm_source }} is null and {{ referrer_kind }} = 'search')
        then 'organic_search'
    when lower({{ utm_medium }}) in ('social', 'organic_social', 'social-media')
        or ({{ utm_source }} is null and {{ referrer_kind }} = 'social') then 'organic_social'
    when {{ utm_source }} is not null then 'other_campaign'
    when {{ linking_host }} is not null then 'referral'
    else 'direct'
end
{%- endmacro %}

{# The host of a URL, in lower case, without "www.". #}
{% macro host_of(url) -%}
nullif(regexp_extract(lower({{ url }}), '^[a-z][a-z0-9+.-]*://(?:[^/@]*@)?(?:www\.)?([^/:?#]+)', 1), '')
{%- endmacro %}

{# Which campaign of a channel: a key of dim_campaign. #}
{% macro campaign_key(channel, campaign) -%}
md5({{ channel }} || chr(31) || {{ campaign }})
{%- endmacro %}
