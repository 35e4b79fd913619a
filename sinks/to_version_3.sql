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
