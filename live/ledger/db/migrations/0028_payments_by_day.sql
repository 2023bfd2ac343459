-- 0028_payments_by_day.sql
-- Why:    housekeeping forgets contacts of payments by their age, and reads only what came of age.
-- Deploy: any time.   Lock: writes wait for one read of the table; a BRIN index costs no row.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '60s';

CREATE INDEX payments_by_day ON payments USING brin (created_at);
