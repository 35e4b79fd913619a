-- What is known of a topic itself, and of what it lost.
create table if not exists stream.topics (
    topic varchar not null,
    topic_id varchar not null
);
create table if not exists stream.lost_records (
    topic varchar not null,
    "partition" integer not null,
    from_offset bigint not null,
    to_offset bigint not null,
    reason varchar not null,
    noted_at timestamptz not null
);
