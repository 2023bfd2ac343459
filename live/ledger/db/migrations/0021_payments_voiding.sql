-- 0021_payments_voiding.sql
-- Why:    whoever records that the provider has the money must see that its void was asked for a
--         moment ago, or it sells units that the ledger then refuses. A job's row is invisible to a
--         statement that waited for the payment's lock; a column of the payment is not.
-- Deploy: before the code. Old code leaves it false.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

ALTER TABLE payments ADD COLUMN voiding boolean NOT NULL DEFAULT false;
