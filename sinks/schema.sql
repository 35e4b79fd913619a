-- The warehouse's tables, version 8. No primary keys and no ON CONFLICT: the same SQL has to run on DuckLake, but for the hint
-- on compression.

create schema if not exists stream;

create table stream.warehouse (
    warehouse_id varchar not null,      -- random, made once; Redis carries it too
    generation varchar not null,        -- new after each restore
    schema_version integer not null,
    created_at timestamptz not null,
    salt varchar not null               -- of the digests in stream.tombstones
);

-- Every accepted event, appended once, never updated.
create table stream.events (
    message_id varchar not null,
    type varchar not null,
    name varchar not null,
    anonymous_id varchar,
    user_id varchar,                    -- as sent, legal or not
    person_id varchar,                  -- as known at commit; joined with person_overrides for "as known now"
    event_at timestamptz not null,
    received_at timestamptz not null,
    path varchar,
    referrer varchar,
    utm_source varchar,
    utm_medium varchar,
    utm_campaign varchar,
    device_type varchar,                -- as the event says, else by its user agent
    browser varchar,
    os varchar,
    properties json using compression zstd,  -- seldom alike: smaller, and sooner written, than by a dictionary
    context json,
    clock_skewed boolean not null,
    is_bot boolean not null,
    is_background boolean not null,
    "partition" integer not null,
    "offset" bigint not null
);

-- Appended once, rewritten by the late road alone.
create table stream.closed_sessions (
    session_id varchar not null,
    anonymous_id varchar not null,
    user_id varchar,
    person_id varchar not null,
    started_at timestamptz not null,
    ended_at timestamptz not null,
    event_count bigint not null,
    page_count bigint not null,
    entry_path varchar,
    exit_path varchar,
    referrer varchar,
    utm_source varchar,
    utm_medium varchar,
    utm_campaign varchar,
    device_type varchar,
    browser varchar,
    os varchar,
    start_reason varchar not null,
    end_reason varchar,
    is_bot boolean not null,
    revision integer not null,
    first_message_id varchar not null,
    last_message_id varchar not null
);

-- The last session of each device until the watermark has passed it: the flow's state, and visible.
create table stream.open_sessions (
    session_id varchar not null,
    anonymous_id varchar not null,
    user_id varchar,
    person_id varchar not null,
    started_at timestamptz not null,
    ended_at timestamptz not null,
    event_count bigint not null,
    page_count bigint not null,
    entry_path varchar,
    exit_path varchar,
    referrer varchar,
    utm_source varchar,
    utm_medium varchar,
    utm_campaign varchar,
    device_type varchar,
    browser varchar,
    os varchar,
    start_reason varchar not null,
    end_reason varchar,                 -- 'logout' or null
    is_bot boolean not null,
    revision integer not null,
    first_message_id varchar not null,
    last_message_id varchar not null,
    topic varchar not null,             -- whose watermark closes it
    "partition" integer not null
);

create view stream.sessions as
select session_id, anonymous_id, user_id, person_id, started_at, ended_at, event_count, page_count, entry_path,
    exit_path, referrer, utm_source, utm_medium, utm_campaign, device_type, browser, os, start_reason, end_reason,
    false as is_open, is_bot, revision, first_message_id, last_message_id
from stream.closed_sessions
union all
select session_id, anonymous_id, user_id, person_id, started_at, ended_at, event_count, page_count, entry_path,
    exit_path, referrer, utm_source, utm_medium, utm_campaign, device_type, browser, os, start_reason, end_reason,
    end_reason is null as is_open, is_bot, revision, first_message_id, last_message_id
from stream.open_sessions;

-- Each event with its session: tuples, because a logout and the next session's first event may share an instant.
create view stream.session_events as
select e.*, s.session_id
from stream.events e
join stream.sessions s
  on s.anonymous_id = e.anonymous_id
 and (e.event_at, e.message_id) >= (s.started_at, s.first_message_id)
 and (e.event_at, e.message_id) <= (s.ended_at, s.last_message_id);

-- What happened to a session that the late road absorbed into another or cut in two.
create table stream.session_changes (
    session_id varchar not null,
    superseded_by varchar,              -- the session that now holds its first event
    revision integer not null,          -- the last revision it had
    changed_at timestamptz not null
);

-- Grow-only: every act that changed who is behind an id.
create table stream.identity_facts (
    kind varchar not null,              -- claim, logout, alias; by an operator merge, unmerge; forgotten for what is
                                        -- kept of a forgotten user's claims and logouts on a device of others, too
    anonymous_id varchar,               -- null for an operator's act
    user_id varchar,                    -- null for a logout and for an operator's act
    event_at timestamptz not null,      -- of an operator's act, when it was done
    message_id varchar not null,        -- of an operator's act, an id of its own
    reason varchar not null,
    recorded_at timestamptz not null,
    person_id varchar,                  -- of an operator's act: the person that stays
    other_person_id varchar,            -- of an operator's act: the one that counts to it, or no longer
    actor varchar                       -- of an operator's act: who did it
);

-- What the rules say about facts, as long as it holds.
create table stream.identity_verdicts (
    verdict varchar not null,           -- refused, shared, held
    anonymous_id varchar,
    user_id varchar,
    event_at timestamptz not null,
    message_id varchar not null,
    reason varchar not null,
    recorded_at timestamptz not null
);

-- Whose a device's events without a user of their own are, where that changed after they were committed: from
-- (from_at, from_message_id), inclusive, to (to_at, to_message_id), exclusive, as tuples. Never overlapping.
create table stream.person_overrides (
    anonymous_id varchar not null,
    from_at timestamptz not null,
    to_at timestamptz not null,
    person_id varchar not null,
    from_message_id varchar not null,
    to_message_id varchar not null
);

-- Whom persons count to that an operator merged into another, by all merges that stand. Applied after person_overrides.
create table stream.person_merges (
    person_id varchar not null,
    merged_into varchar not null
);

-- Persons who were forgotten: what went, and who asked for it. Never an id.
create table stream.forgotten (
    tombstone_id varchar not null,      -- random
    forgotten_at timestamptz not null,
    reason varchar not null,
    actor varchar not null,
    events bigint not null,             -- removed from stream.events; stream.progress still counts them as stored
    sessions bigint not null,
    devices bigint not null,            -- forgotten whole, as nobody else had them
    dead_letters bigint not null,
    is_erased boolean not null          -- whether the file was written anew since
);

-- Whose arrivals are refused since: an id as a digest, and between which times what comes under it is refused.
create table stream.tombstones (
    tombstone_id varchar not null,
    kind varchar not null,              -- user, device
    digest blob not null,               -- SHA-256 of stream.warehouse's salt, kind and id
    hint integer not null,              -- 20 bits of another hash, so that few ids have to be digested
    from_at timestamptz,                -- null for an id that is forgotten whole
    to_at timestamptz not null,         -- inclusive
    forgotten_at timestamptz not null
);

create table stream.bot_devices (
    anonymous_id varchar not null,
    reason varchar not null,
    first_seen_at timestamptz not null
);

create table stream.dead_letters (
    topic varchar not null,
    "partition" integer not null,
    "offset" bigint not null,
    reason varchar not null,            -- a word, to count by
    detail varchar not null,            -- a sentence, to mend by
    key blob,
    raw blob,                           -- null for a null value
    kafka_at timestamptz,
    dead_at timestamptz not null
);

-- Where each partition stands. stored + duplicates + dead = consumed.
create table stream.progress (
    topic varchar not null,
    "partition" integer not null,
    next_offset bigint not null,
    watermark timestamptz,              -- null before the first event
    greatest_event_at timestamptz,
    consumed bigint not null,
    stored bigint not null,
    duplicates bigint not null,
    dead bigint not null,
    last_kafka_at timestamptz,          -- Kafka's time of the last record; moves the watermark of a quiet partition
    late bigint not null,
    foreign_keys bigint not null,       -- records whose message key was not their anonymousId
    committed_at timestamptz not null
);

-- What each comparison of all sessions with the batch definition found.
create table stream.reconciliations (
    compared_at timestamptz not null,   -- when it began
    seconds double not null,            -- how long it took
    sessions bigint not null,           -- as many as the batch definition has
    differing bigint not null,
    repaired boolean not null           -- whether those that differed were rewritten
);

-- Which topic that is: one made anew under the same name has another id, and its offsets mean other records.
create table stream.topics (
    topic varchar not null,
    topic_id varchar not null           -- Kafka's
);

-- Records that Kafka had lost before they were read, and that the flow was told to go on without.
create table stream.lost_records (
    topic varchar not null,
    "partition" integer not null,
    from_offset bigint not null,        -- where the flow would have gone on
    to_offset bigint not null,          -- where it went on; below from_offset if the offsets begin anew
    reason varchar not null,
    noted_at timestamptz not null
);

-- Every id seen and whose it is after the last fact.
create view stream.identities as
with last_facts as (
    -- A logout that carries a user is first that user's claim.
    -- An alias may have been refused later, when its anonymous id turned out to be a user's.
    select anonymous_id, arg_max({'user_id': user_id}, (event_at, message_id, user_id is null)) as fact
    from stream.identity_facts f
    where anonymous_id is not null and not exists (
        from stream.identity_verdicts v where v.verdict = 'refused' and f.kind = 'alias'
          and v.anonymous_id = f.anonymous_id and v.message_id = f.message_id
    )
    group by anonymous_id
),
anonymous_ids as (
    select anonymous_id from stream.events where anonymous_id is not null
    union
    select anonymous_id from last_facts
),
known as (
    select 'anonymous' as kind, a.anonymous_id as id,
        coalesce(case when h.user_id is null then f.fact.user_id end,
            'anon:' || a.anonymous_id) as person_id
    from anonymous_ids a
    left join last_facts f using (anonymous_id)
    left join stream.identity_verdicts h
      on h.verdict = 'held' and h.anonymous_id = a.anonymous_id and h.user_id = f.fact.user_id
    union all
    select 'user', user_id, person_id
    from (
        select distinct user_id, person_id from stream.events where user_id = person_id
        union
        select distinct user_id, user_id from stream.identity_facts where user_id is not null and kind <> 'forgotten'
    )
)
select k.kind, k.id, coalesce(m.merged_into, k.person_id) as person_id
from known k left join stream.person_merges m on m.person_id = k.person_id;

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

-- Incidents: what is out of range, and what became of it.
create schema anomalies;

create table anomalies.incidents (
    incident_id varchar not null,
    kind varchar not null,              -- anomaly, late, health
    team varchar not null,              -- who is told
    rule varchar not null,              -- that found it first, as the following
    grain varchar not null,             -- day, hour, five_minutes
    status varchar not null,            -- open, acknowledged, snoozed, resolved, expired, dismissed
    severity integer not null,          -- 1 minor, 2 major, 3 critical; never falls
    opened_at timestamptz not null,     -- when it was found
    seen_at timestamptz not null,       -- when a verdict was last heard
    ended_at timestamptz,               -- since when it is back in range, or when it was given up
    acted_by varchar not null,          -- who acknowledged, snoozed or dismissed it; empty for nobody
    snoozed_until timestamptz
);

-- The verdicts that an incident is made of, and those since that say that it may be over.
create table anomalies.verdicts (
    incident_id varchar not null,
    metric varchar not null,
    segment varchar not null,           -- 'all', or dimension=value
    grain varchar not null,
    began_at timestamptz not null,      -- when the day, hour or five minutes began
    said varchar not null,              -- normal, anomaly, too_few, quiet, waiting
    rule varchar not null,
    actual double,
    expected double,
    low double,                         -- the expected range
    high double,
    z double,
    baseline integer not null,          -- values in the baseline
    because varchar not null,
    unusual varchar not null,
    parts json not null                 -- the segments that explain it: segment, actual, expected, share
);

-- What became of each incident, in order; each is told once.
create table anomalies.changes (
    change_id varchar not null,
    incident_id varchar not null,
    position integer not null,
    what varchar not null,
    changed_at timestamptz not null,
    actor varchar not null,             -- empty where nobody did it
    about varchar not null,
    act_id varchar not null             -- which request of somebody's that was; empty for none
);

-- What somebody did about an incident, whether that changed it or not: the same act again changes nothing.
create table anomalies.acts (
    act_id varchar not null,
    incident_id varchar not null,
    deed varchar not null,              -- acknowledge, snooze, not_anomaly
    actor varchar not null,
    acted_at timestamptz not null
);

-- The values that a baseline leaves out: those of incidents, but for the ones that somebody said were no anomaly.
create view anomalies.left_out as
select distinct v.metric, v.segment, v.grain, v.began_at
from anomalies.verdicts v
join anomalies.incidents i on i.incident_id = v.incident_id
where i.kind = 'anomaly' and i.status <> 'dismissed' and v.said = 'anomaly';

-- What has to be said in Slack, and what of it Slack has: for each incident a message, which is updated, and in its
-- thread a reply for each change, and images.
create table anomalies.outbox (
    item_id varchar not null,
    kind varchar not null,              -- message, reply, image
    incident_id varchar not null,
    position integer not null,          -- the order within the incident; the message is the first
    channel varchar not null,           -- an id or a #name
    channel_id varchar,                 -- Slack's, once it is known
    payload json not null,              -- text and blocks; of an image its name and what it shows
    image blob,
    wanted integer not null,            -- how often the payload was written
    said integer not null,              -- which of these Slack has; 0 for none
    ts varchar,                         -- Slack's id of it
    former_ts varchar,                  -- of the message that somebody deleted, after which it was posted anew
    state varchar not null,             -- waiting, said, stuck (kept until somebody mends it), withdrawn (deleted twice)
    is_unsure boolean not null,         -- whether Slack may have it without our knowing
    attempts integer not null,          -- since it was last said
    due_at timestamptz not null,        -- not to be tried before that
    claimed_by varchar,                 -- the sender that is at it
    claimed_until timestamptz,
    error varchar,
    created_at timestamptz not null,
    said_at timestamptz
);

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
