-- What each comparison of all sessions with the batch definition found.
create table stream.reconciliations (
    compared_at timestamptz not null,   -- when it began
    seconds double not null,            -- how long it took
    sessions bigint not null,           -- as many as the batch definition has
    differing bigint not null,
    repaired boolean not null           -- whether those that differed were rewritten
);
