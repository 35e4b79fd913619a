-- Spend of each file that no other file overlaps = the file's own total; and the mart's, by account = the exports'.
{{ config(tags=['business'], meta={'says': "the spend of a platform is not what its exports' own totals say"}) }}
with rows_of_files as (
    select file_id, sum(spend) as spend
    from {{ source('marketing', 'ad_spend') }}
    group by file_id
),

whole_files as (
    -- Of no day and account of which a file was loaded later.
    select file_id, file_name, spend
    from {{ source('marketing', 'spend_files') }} as files
    where not exists (
        from {{ source('marketing', 'spend_files') }} as other
        where other.file_id <> files.file_id and other.platform = files.platform and other.account = files.account
          and other.from_date <= files.to_date and files.from_date <= other.to_date
    )
),

mart as (
    select channel, account, currency, sum(spend) as spend
    from {{ ref('fct_ad_spend_daily') }}
    group by all
),

exports as (
    select platform as channel, account, currency, sum(spend) as spend
    from {{ source('marketing', 'ad_spend') }}
    group by all
)

select 'file' as what, file_name as name, whole_files.spend as of_export, rows_of_files.spend as of_mart
from whole_files
left join rows_of_files using (file_id)
where abs(whole_files.spend - coalesce(rows_of_files.spend, 0)) > 0.005
union all
select 'account', channel || ' ' || account, exports.spend, mart.spend
from exports
full join mart using (channel, account, currency)
where abs(coalesce(exports.spend, 0) - coalesce(mart.spend, 0)) > 0.005
