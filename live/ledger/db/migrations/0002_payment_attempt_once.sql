-- 0002_payment_attempt_once.sql
-- Why:    a repeat of one checkout call must find its first row even after that one was declined.
-- Deploy: before the code.   Lock: brief; the table is small wherever this runs first.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '30s';

CREATE UNIQUE INDEX payments_by_attempt ON payments (show, buyer, hold, attempt);
DROP INDEX payments_by_hold;  -- the new index begins with the same columns
