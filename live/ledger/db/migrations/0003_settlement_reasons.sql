-- 0003_settlement_reasons.sql
-- Why:    a rejected order keeps its reason.
-- Deploy: before the code. Old code ignores the column.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

ALTER TABLE orders ADD COLUMN reason text NOT NULL DEFAULT '';
