-- What becomes of the marts: changes that were announced to those who read them, and who reads them.
create schema governance;

-- Each change that was announced; the same one again is the same row.
create table governance.changes (
    change_id varchar not null,         -- a digest of what changes, from what into what
    mart varchar not null,              -- as the schema marts has it; mart_daily_metrics for a metric
    metric varchar,                     -- as mart_daily_metrics has it; null for what is no metric's
    column_name varchar,                -- null for what concerns all of them
    what varchar not null,              -- column_removed, column_renamed, meaning_changed and so on
    is_breaking boolean not null,
    says varchar not null,              -- in a sentence
    before varchar,
    after varchar,
    link varchar,                       -- where more can be read
    announced_at timestamptz not null,
    announced_by varchar not null,
    in_force_at timestamptz not null,   -- from when on a refresh may publish it
    because varchar,                    -- why it does not wait for the notice period; null if it does
    withdrawn_at timestamptz            -- when it was said that it does not come
);

-- Who was told of a change, each owner once, and who of them has seen it.
create table governance.notices (
    notice_id varchar not null,         -- of the message, which may tell of several changes
    change_id varchar not null,
    owner varchar not null,             -- the team
    channel varchar not null,
    consumers json not null,            -- what of theirs reads it: names of exposures
    told_at timestamptz not null,
    seen_by varchar,
    seen_at timestamptz
);

-- Who reads published marts by the API, by day: counts alone, for 90 days and in at most 10,000 rows.
create table governance.reads (
    day date not null,                  -- UTC
    reader varchar not null,            -- the login that a proxy told, else the role
    client varchar not null,            -- the program, as its User-Agent begins
    mart varchar not null,
    metric varchar,                     -- null where a mart was read as such
    reads bigint not null,
    last_at timestamptz not null
);
