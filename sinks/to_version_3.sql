-- What each comparison of all sessions with the batch definition found.
create table stream.reconciliations (
    compared_at timestamptz not null,   -- when it began
    seconds double not null,            -- how long it took
    sessions bigint not null,           -- as many as the batch definition has
    differing bigint not null,
    repaired boolean not null           -- whether those that differed were rewritten
);
-- What is known of a topic itself, and of what it lost.
create table stream.topics (
    topic varchar not null,
    topic_id varchar not null
);
create table stream.lost_records (
    topic varchar not null,
    "partition" integer not null,
    from_offset bigint not null,
    to_offset bigint not null,
    reason varchar not null,
    noted_at timestamptz not null
);
-- An alias whose anonymous id turns out to be a user's later is refused then, and links nothing from there on.
create or replace view stream.identities as
with last_facts as (
    -- A logout that carries a user is first that user's claim.
    -- An alias may have been refused later, when its anonymous id turned out to be a user's.
    select anonymous_id, arg_max({'kind': kind, 'user_id': user_id}, (event_at, message_id, kind = 'logout')) as fact
    from stream.identity_facts f
    where not exists (
        from stream.identity_verdicts v where v.verdict = 'refused' and f.kind = 'alias'
          and v.anonymous_id = f.anonymous_id and v.message_id = f.message_id
    )
    group by anonymous_id
),
anonymous_ids as (
    select anonymous_id from stream.events where anonymous_id is not null
    union
    select anonymous_id from last_facts
)
select 'anonymous' as kind, a.anonymous_id as id,
    coalesce(case when f.fact.kind <> 'logout' then f.fact.user_id end, 'anon:' || a.anonymous_id) as person_id
from anonymous_ids a
left join last_facts f using (anonymous_id)
union all
select 'user', user_id, person_id
from (
    select distinct user_id, person_id from stream.events where user_id = person_id
    union
    select distinct user_id, user_id from stream.identity_facts where user_id is not null
);
