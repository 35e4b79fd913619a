-- Operators' acts, and verdicts that may cease to hold.
alter table stream.identity_facts alter anonymous_id drop not null;
alter table stream.identity_facts add column person_id varchar;
alter table stream.identity_facts add column other_person_id varchar;
alter table stream.identity_facts add column actor varchar;
create table stream.person_merges (
    person_id varchar not null,
    merged_into varchar not null
);
-- Every id seen and whose it is after the last fact.
create or replace view stream.identities as
with last_facts as (
    -- A logout that carries a user is first that user's claim.
    -- An alias may have been refused later, when its anonymous id turned out to be a user's.
    select anonymous_id, arg_max({'kind': kind, 'user_id': user_id}, (event_at, message_id, kind = 'logout')) as fact
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
        coalesce(case when f.fact.kind <> 'logout' and h.user_id is null then f.fact.user_id end,
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
        select distinct user_id, user_id from stream.identity_facts where user_id is not null
    )
)
select k.kind, k.id, coalesce(m.merged_into, k.person_id) as person_id
from known k left join stream.person_merges m on m.person_id = k.person_id;
