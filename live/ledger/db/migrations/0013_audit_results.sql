-- 0013_audit_results.sql
-- Why:    the console shows when the books were last checked and what was found.
-- Deploy: before the code. Old code ignores the table.   Lock: none, a new table.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- One row: the latest audit of the schedule, of all shows together.
CREATE TABLE audit_results (
    only_one  boolean     PRIMARY KEY DEFAULT true CHECK (only_one),
    at        timestamptz NOT NULL DEFAULT now(),
    findings  integer     NOT NULL CHECK (findings >= 0),
    in_flight integer     NOT NULL CHECK (in_flight >= 0)
);
