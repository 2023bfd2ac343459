-- 0011_money_jobs_refused_voids.sql
-- Why:    a void that a provider refused is asked for again until nothing is held.
-- Deploy: before the code.   Lock: brief; few voids are ever refused.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '30s';

CREATE INDEX money_jobs_refused_voids ON money_jobs (due_at)
    WHERE state = 'failed' AND kind = 'void';
