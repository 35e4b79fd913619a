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

-- The builds of the marts: each is a schema of its own, build_NNNN; the views of the schema marts show one of them.
create schema refreshes;

create table refreshes.builds (
    build_id integer not null,
    build_schema varchar not null,
    kind varchar not null,              -- full, incremental
    status varchar not null,            -- building, published, replaced, failed
    started_at timestamptz not null,
    finished_at timestamptz,
    published_at timestamptz,
    as_of timestamptz,                  -- up to when the events were known
    last_row bigint,                    -- the last row of stream.events that counts
    events bigint,                      -- rows up to it
    forgotten bigint,                   -- how often a person had been forgotten
    generation varchar,                 -- of the warehouse
    settings varchar,                   -- a digest of all it depends on besides the data
    row_counts json not null,           -- by mart
    changes json not null,              -- metrics of complete days that are not what was published before
    message varchar                     -- why it failed
);

-- Why a build was not published.
create table refreshes.findings (
    build_id integer not null,
    what varchar not null,              -- the test, the model or the rule of the policy
    about varchar not null,             -- the model that it is about
    says varchar not null,              -- in words
    failures bigint,                    -- rows that fail
    relation varchar                    -- where they are
);
