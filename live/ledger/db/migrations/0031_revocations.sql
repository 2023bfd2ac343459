-- 0031_revocations.sql
-- Why:    who logs out must be out: tokens are refused by id, or by person and time, while they live.
-- Deploy: before the code. Old code ignores the table.   Lock: none, it is new.
SET LOCAL lock_timeout = '4s';  SET LOCAL statement_timeout = '5s';
CREATE TABLE revocations (
    token      text NOT NULL DEFAULT '',        -- the id of one token; '': those of a person
    sub        text NOT NULL,
    show       text NOT NULL DEFAULT '',        -- '': on every show
    rank       smallint NOT NULL,               -- tokens of roles below it are meant
    before     bigint NOT NULL,                 -- Unix seconds: tokens made until then
    until      timestamptz NOT NULL,            -- the last of them has expired
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sub, token, show, rank)
);
CREATE INDEX revocations_by_change ON revocations (changed_at);
CREATE INDEX revocations_by_end ON revocations (until);
