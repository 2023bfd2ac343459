-- 0018_money_jobs_refunds_that_wait.sql
-- Why:    a refund is done when the provider says so: it may wait for days, fail, fail after it was
--         done, and be called off by a host.
-- Deploy: before the code. Old code knows none of these and changes none.
-- Lock:   brief; the constraint is not checked against old rows, which keep a narrower one.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '30s';

ALTER TABLE money_jobs
    -- Since when the provider has been at work on it; NULL: it has not said so.
    ADD COLUMN pending_at timestamptz,
    -- It was done, and the provider has had news of it since: somebody has to look.
    ADD COLUMN doubted boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT money_jobs_state_check,
    ADD CONSTRAINT money_jobs_state_check
        CHECK (state IN ('due', 'done', 'failed', 'called_off')) NOT VALID;
CREATE INDEX money_jobs_doubted ON money_jobs (due_at) WHERE doubted;
