-- 0023_leases.sql
-- Why:    work that one process does at a time goes to another when that process falls silent,
--         frozen or cut off, while its connection still stands.
-- Deploy: before the code. Old code ignores the table.   Lock: none, the table is new.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- `until` is judged by this server's now(). `fence` grows with each new holder, so whatever an
-- earlier one still does can be told from what the present one does.
CREATE TABLE leases (
    name  text        PRIMARY KEY,
    fence bigint      NOT NULL,
    until timestamptz NOT NULL
);
