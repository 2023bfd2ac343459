-- 0040_payments_totals.sql
-- Why:    a payment may be for more than its goods: shipping, tax, duty. What it came to is frozen
--         with it, and `quote` names what the buyer was told, so that a repeat is known as one.
-- Deploy: before the code. Old code writes neither: its payments are for the goods alone.
-- Lock:   brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

ALTER TABLE payments
    -- NULL: subtotal and total are the sum of the lines.
    ADD COLUMN totals jsonb,
    -- NULL: made without one. A digest of the quote and of the shipping that was chosen.
    ADD COLUMN quote text;
