-- 0044_shop_references.sql
-- Why:    a reference of the shop's own checkout is the payment of one hold, also where that was
--         refused: the shop was told to pay it back, so no other hold may be sold by it.
-- Deploy: before the code. Old code knows the references of payments alone.
-- Lock:   none on other tables; the table is new.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '30s';

CREATE TABLE shop_references (
    reference  text PRIMARY KEY,
    show       text NOT NULL,
    buyer      bytea NOT NULL CHECK (length(buyer) = 16),
    hold       uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO shop_references (reference, show, buyer, hold)
SELECT provider_ref, show, buyer, hold FROM payments
WHERE provider = 'external' AND provider_ref IS NOT NULL;
