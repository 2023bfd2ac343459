-- 0004_money_jobs_refused_captures.sql
-- Why:    a capture that was refused for good stays due until its order is cancelled.
-- Deploy: before the code.   Lock: brief; the table is small wherever this runs first.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '30s';

CREATE INDEX money_jobs_refused_captures ON money_jobs (due_at)
    WHERE state = 'failed' AND kind = 'capture';
