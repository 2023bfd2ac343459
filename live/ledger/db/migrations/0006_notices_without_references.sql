-- 0006_notices_without_references.sql
-- Why:    a notice is written by the statement that writes its order and deleted once it is told;
--         checking its references was a quarter of the cost of settling an order.
-- Deploy: any time.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

ALTER TABLE notices DROP CONSTRAINT notices_order_id_fkey;
ALTER TABLE notices DROP CONSTRAINT notices_show_fkey;
