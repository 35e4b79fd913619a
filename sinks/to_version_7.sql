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
