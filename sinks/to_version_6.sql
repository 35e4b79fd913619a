-- What marketing costs.
create schema if not exists marketing;

-- The exports of advertising platforms that were loaded, by what is in them.
create table marketing.spend_files (
    file_id varchar not null,           -- SHA-256 of its bytes, hexadecimal
    file_name varchar not null,
    platform varchar not null,          -- google, meta, microsoft, linkedin, tiktok, x, reddit, pinterest
    account varchar not null,
    currency varchar not null,          -- ISO 4217
    time_zone varchar,                  -- of its days, as far as it is known
    row_count bigint not null,          -- lines of data
    spend decimal(18, 6) not null,
    from_date date not null,
    to_date date not null,              -- inclusive
    exported_at timestamptz,            -- as the file says it; the later one of two exports counts
    loaded_at timestamptz not null
);

-- One row for each campaign and day, of the newest export that has it; over all ads.
create table marketing.ad_spend (
    platform varchar not null,
    account varchar not null,
    campaign_id varchar,                -- null where the export has none: then the name tells campaigns apart
    campaign varchar not null,
    spend_date date not null,           -- of the account's time zone
    currency varchar not null,
    spend decimal(18, 6) not null,
    impressions bigint,                 -- null, as the following, where the export has no such column
    clicks bigint,
    conversions double,                 -- as the platform counts them
    conversion_value decimal(18, 6),
    file_id varchar not null
);

-- What one unit of a currency is worth in US dollars, from that day on until the next one.
create table marketing.currency_rates (
    rate_date date not null,
    currency varchar not null,
    usd decimal(18, 9) not null
);
