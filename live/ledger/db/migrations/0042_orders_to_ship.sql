-- 0042_orders_to_ship.sql
-- Why:    a warehouse asks which orders have something to ship, among all that ever were; a shop
--         asks for the order that has its own number; each order tells what was taken back of it,
--         and each refund why it was asked for.
-- Deploy: before the code. Old code leaves `to_ship` as it is: of what it ships units are counted,
--         for nothing, and a parcel of which it notes that it came back is listed from the next
--         change of its order or repair on. It writes no `asked_why`.
-- Lock:   brief, no rewrite. The indexes take the time of reading the tables once.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE orders
    ADD COLUMN to_ship boolean NOT NULL DEFAULT true;   -- false: no unit of it may leave any more
CREATE INDEX orders_to_ship ON orders (coalesce(position, 0), created_at, id)
    WHERE to_ship AND state IN ('confirmed', 'paid', 'partially_refunded')
      AND fulfilment IN ('unfulfilled', 'partial', 'returned');
CREATE INDEX orders_by_reference ON orders (coalesce(reference, paid_reference))
    WHERE coalesce(reference, paid_reference) IS NOT NULL;

CREATE INDEX stock_movements_returned ON stock_movements (order_id, offer)
    WHERE kind = 'returned';

-- `reason` becomes the provider's word where a refund fails.
ALTER TABLE money_jobs ADD COLUMN asked_why text;       -- NULL: nobody asked, or before this
