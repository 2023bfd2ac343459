-- 0017_orders_paid_reference.sql
-- Why:    an invoice is paid when the shop says so, and by what: nothing is captured before.
-- Deploy: before the code. Old code ignores the column.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '30s';

-- The shop's word for the payment (a bank's reference, a receipt); NULL where a provider was asked.
ALTER TABLE orders ADD COLUMN paid_reference text;

-- Captures of invoices that were about to be done: nobody has paid them.
DELETE FROM money_jobs j USING payments p
WHERE p.id = j.payment AND p.provider = 'invoice' AND j.kind = 'capture' AND j.state = 'due';
