-- 0007_payments_held_until.sql
-- Why:    when a payment fails its hold goes back to the deadline from before it began to be paid.
-- Deploy: before the code. Old code ignores the column.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- Unix ms by Redis' clock; NULL where nothing was held (first_paid).
ALTER TABLE payments ADD COLUMN held_until bigint;
