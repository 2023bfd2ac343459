-- 0025_poison_decided_at.sql
-- Why:    what was put aside is a finding until it was settled after all, or a person was told that
--         the stock was made again without it; the row stays for whoever looks for the reason.
-- Deploy: before the code. Old code ignores the columns.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

ALTER TABLE poison ADD COLUMN decided_at timestamptz;
-- The last time that it could not be settled.
ALTER TABLE poison ADD COLUMN tried_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX poison_open ON poison (show) WHERE decided_at IS NULL;
