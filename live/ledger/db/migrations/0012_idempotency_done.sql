-- 0012_idempotency_done.sql
-- Why:    a command whose answer was lost with its process must not be done again by a repeat.
-- Deploy: before the code. Old code ignores the column.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- Set in the transaction of the command itself: true exactly if the command has committed.
ALTER TABLE idempotency ADD COLUMN done boolean NOT NULL DEFAULT false;
