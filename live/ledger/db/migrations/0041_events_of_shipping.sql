-- 0041_events_of_shipping.sql
-- Why:    parcels, returns and withdrawals are events of their orders, as 0038 says of the rest.
-- Deploy: before the code. Old code writes events without knowing it.
-- Lock:   brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

CREATE FUNCTION tell_new_shipments() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject, detail)
    SELECT told.type, o.show, 'order:' || o.id, jsonb_build_object('shipment', n.id)
    FROM new_rows n JOIN orders o ON o.id = n.order_id
    CROSS JOIN LATERAL (VALUES
        (1, 'order.shipped', true),
        (2, 'order.delivered', n.status = 'delivered')
    ) AS told (rank, type, so)
    WHERE told.so ORDER BY n.created_at, n.id, told.rank;
    RETURN NULL;
END $$;
CREATE TRIGGER shipments_tell_new AFTER INSERT ON shipments REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_new_shipments();

CREATE FUNCTION tell_delivered_shipments() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject, detail)
    SELECT 'order.delivered', o.show, 'order:' || o.id, jsonb_build_object('shipment', n.id)
    FROM new_rows n JOIN old_rows b USING (id) JOIN orders o ON o.id = n.order_id
    WHERE n.status = 'delivered' AND b.status <> 'delivered' ORDER BY n.id;
    RETURN NULL;
END $$;
CREATE TRIGGER shipments_tell_delivered AFTER UPDATE ON shipments
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_delivered_shipments();

CREATE FUNCTION tell_new_returns() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject, detail)
    SELECT 'order.return_requested', o.show, 'order:' || o.id, jsonb_build_object('return', n.id)
    FROM new_rows n JOIN orders o ON o.id = n.order_id ORDER BY n.created_at, n.id;
    RETURN NULL;
END $$;
CREATE TRIGGER returns_tell_new AFTER INSERT ON returns REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_new_returns();

CREATE FUNCTION tell_changed_returns() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject, detail)
    SELECT 'order.return_updated', o.show, 'order:' || o.id, jsonb_build_object('return', n.id)
    FROM new_rows n JOIN old_rows b USING (id) JOIN orders o ON o.id = n.order_id
    WHERE (n.state, n.refund_minor, n.restocked)
          IS DISTINCT FROM (b.state, b.refund_minor, b.restocked)
    ORDER BY n.id;
    RETURN NULL;
END $$;
CREATE TRIGGER returns_tell_changed AFTER UPDATE ON returns
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_changed_returns();

CREATE FUNCTION tell_withdrawals() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject)
    SELECT 'order.withdrawn', o.show, 'order:' || o.id
    FROM new_rows n JOIN orders o ON o.id = n.order_id ORDER BY n.order_id;
    RETURN NULL;
END $$;
CREATE TRIGGER withdrawals_tell_new AFTER INSERT ON withdrawals REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_withdrawals();
