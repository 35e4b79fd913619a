-- The forgetting of persons.
create table stream.salted (
    warehouse_id varchar not null,
    generation varchar not null,
    schema_version integer not null,
    created_at timestamptz not null,
    salt varchar not null
);
insert into stream.salted select *, uuid()::varchar from stream.warehouse;
drop table stream.warehouse;
alter table stream.salted rename to warehouse;
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
-- Every id seen and whose it is after the last fact.
create or replace view stream.identities as
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
