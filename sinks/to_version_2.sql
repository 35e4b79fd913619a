-- What an event says of its device is kept with it; of events stored before, only what they said in so many words.
alter table stream.events add column device_type varchar;
alter table stream.events add column browser varchar;
alter table stream.events add column os varchar;
update stream.events set
    device_type = case json_type(context, '$.device') when 'VARCHAR' then context->>'$.device'
        when 'OBJECT' then context->>'$.device.type' end,
    os = case json_type(context, '$.os') when 'VARCHAR' then context->>'$.os'
        when 'OBJECT' then context->>'$.os.name' end;

create or replace view stream.session_events as
select e.*, s.session_id
from stream.events e
join stream.sessions s
  on s.anonymous_id = e.anonymous_id
 and (e.event_at, e.message_id) >= (s.started_at, s.first_message_id)
 and (e.event_at, e.message_id) <= (s.ended_at, s.last_message_id);
