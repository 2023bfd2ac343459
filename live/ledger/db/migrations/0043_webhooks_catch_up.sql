-- 0043_webhooks_catch_up.sql
-- Why:    when an endpoint is back after an outage, what waits for its next try goes at once, in the
--         order of those tries. Up to where that went stands here; the deliveries keep their times.
-- Deploy: before the code. Old code ignores the columns.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

ALTER TABLE webhooks ADD COLUMN caught_up_to timestamptz;                -- NULL: nothing is caught up
ALTER TABLE webhooks ADD COLUMN caught_up_id bigint NOT NULL DEFAULT 0;  -- of those at that time
