-- 0038_events.sql
-- Why:    the shop must hear of every sale. Statement-level triggers write an event in the
--         transaction that makes it true, so no statement, of whichever version, can forget one;
--         endpoints of the shop, what is to be delivered to them and what they answered stand beside.
-- Deploy: before the code. Old code writes events without knowing it: the triggers' functions run
--         with their owner's rights, because a lesser role has none on tables that are new to it.
-- Lock:   brief on the tables that get triggers, no rewrite; all tables are new.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '30s';

CREATE TABLE events (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type     text NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    show     text NOT NULL DEFAULT '',      -- '': of the whole shop
    subject  text NOT NULL,                 -- order:<uuid>, offer:<id>, show:<id>, product:<sku>
    detail   jsonb,                         -- members of `data` beside those of its object
    position bigint,                        -- given by the sequencer, without a gap
    data     json                           -- what is delivered, rendered with the position
);
CREATE INDEX events_unplaced ON events (id) WHERE position IS NULL;
CREATE UNIQUE INDEX events_by_position ON events (position) WHERE position IS NOT NULL;

-- The last position given. One row: who writes it is the only one who places events meanwhile.
CREATE TABLE event_sequence (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL DEFAULT 0
);
INSERT INTO event_sequence DEFAULT VALUES;

CREATE TABLE webhooks (
    id            uuid PRIMARY KEY,
    url           text NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    types         text[] NOT NULL CHECK (cardinality(types) BETWEEN 1 AND 50),
    shows         text[] NOT NULL DEFAULT '{}',       -- empty: all, and what is of the whole shop
    format        text NOT NULL CHECK (format IN ('standard', 'cloudevents')),
    contact       boolean NOT NULL DEFAULT false,
    state         text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    reason        text NOT NULL DEFAULT '',           -- why it is disabled
    failing_since timestamptz,                        -- NULL: the last answer was good
    throttles     integer NOT NULL DEFAULT 0,         -- answers in a row that asked for a rest
    rests_until   timestamptz NOT NULL DEFAULT '-infinity',
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- Apart from the rest, so that no list of endpoints can show one.
CREATE TABLE webhook_secrets (
    webhook uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    secret  text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    until   timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (webhook, secret)
);

CREATE TABLE deliveries (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook      uuid NOT NULL,                       -- no reference: an endpoint goes at once
    event        bigint,                              -- NULL: a test
    type         text NOT NULL,
    subject      text NOT NULL,
    state        text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'delivered', 'dead')),
    tries        integer NOT NULL DEFAULT 0,
    due_at       timestamptz NOT NULL DEFAULT now(),
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    attempts     jsonb NOT NULL DEFAULT '[]',         -- the last ones: at, status, ms, answer
    created_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX deliveries_due ON deliveries (webhook, due_at, id) WHERE state = 'due';
-- Those of one subject to one endpoint follow each other.
CREATE INDEX deliveries_in_line ON deliveries (webhook, subject, id) WHERE state = 'due';
CREATE INDEX deliveries_by_webhook ON deliveries (webhook, id);

-- Past events that an endpoint wants once more; the sequencer makes deliveries of them bit by bit.
CREATE TABLE event_replays (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    types   text[] NOT NULL,
    since   timestamptz NOT NULL,
    until   timestamptz NOT NULL,
    after   bigint NOT NULL,                          -- positions up to here were looked at
    upto    bigint NOT NULL
);

-- What becomes an event. Each function reads the rows that one statement changed; nothing of a
-- rehearsal is one. Several of one row keep the order in which they are listed.

CREATE FUNCTION tell_new_shows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject)
    SELECT 'show.created', id, 'show:' || id FROM new_rows;
    RETURN NULL;
END $$;
CREATE TRIGGER shows_tell_new AFTER INSERT ON shows REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_new_shows();

-- In a rehearsal pins, announcements and the pace of the chat are of that rehearsal.
CREATE FUNCTION tell_changed_shows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject)
    SELECT told.type, n.id, 'show:' || n.id
    FROM new_rows n JOIN old_rows o USING (id)
    CROSS JOIN LATERAL (VALUES
        (1, 'show.updated',
         (n.title, n.language, n.playback_url, n.paid_partnership, n.starts_at, n.providers,
          n.run_order, n.frozen)
         IS DISTINCT FROM
         (o.title, o.language, o.playback_url, o.paid_partnership, o.starts_at, o.providers,
          o.run_order, o.frozen)
         OR n.status <> 'rehearsal' AND o.status <> 'rehearsal'
         AND (n.pins, n.announcement, n.announcement_until, n.slow_mode_seconds)
             IS DISTINCT FROM
             (o.pins, o.announcement, o.announcement_until, o.slow_mode_seconds)),
        (2, 'show.started', o.status IN ('scheduled', 'rehearsal') AND n.status = 'live'),
        (3, 'show.paused', o.status = 'live' AND n.status = 'paused'),
        (4, 'show.resumed', o.status = 'paused' AND n.status = 'live'),
        (5, 'show.ended', o.status <> 'ended' AND n.status = 'ended')
    ) AS told (rank, type, so)
    WHERE told.so ORDER BY n.id, told.rank;
    RETURN NULL;
END $$;
CREATE TRIGGER shows_tell_changed AFTER UPDATE ON shows
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_changed_shows();

-- Sold out is what the ledger knows as sold: what is held may still come back.
CREATE FUNCTION tell_changed_offers() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject)
    SELECT told.type, n.show, 'offer:' || n.id
    FROM new_rows n JOIN old_rows o USING (id) JOIN shows s ON s.id = n.show
    CROSS JOIN LATERAL (SELECT
        o.phase IN ('open', 'paused') AND (o.sold >= o.allotted OR o.sold_out) AS was_gone,
        n.phase IN ('open', 'paused') AND (n.sold >= n.allotted OR n.sold_out) AS is_gone
    ) stock
    CROSS JOIN LATERAL (VALUES
        (1, 'offer.scheduled', o.phase <> 'scheduled' AND n.phase = 'scheduled'),
        (2, 'offer.opened', n.phase = 'open'
            AND (o.phase IN ('draft', 'scheduled')
                 OR o.phase = 'paused' AND n.opens_at IS DISTINCT FROM o.opens_at)),
        (3, 'offer.restocked', n.phase IN ('scheduled', 'open', 'paused') AND o.phase <> 'draft'
            AND (n.quantity > o.quantity OR stock.was_gone AND NOT stock.is_gone)),
        (4, 'offer.sold_out', stock.is_gone AND NOT stock.was_gone),
        (5, 'offer.closed', o.phase NOT IN ('draft', 'closed') AND n.phase = 'closed')
    ) AS told (rank, type, so)
    WHERE told.so AND NOT s.rehearsed AND s.status <> 'rehearsal'
    ORDER BY n.id, told.rank;
    RETURN NULL;
END $$;
CREATE TRIGGER offers_tell_changed AFTER UPDATE ON offers
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_changed_offers();

CREATE FUNCTION tell_new_orders() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject)
    SELECT told.type, n.show, 'order:' || n.id
    FROM new_rows n CROSS JOIN LATERAL (VALUES
        (1, 'order.confirmed', n.state NOT IN ('cancelled', 'rejected')),
        (2, 'order.paid', n.state = 'paid'),
        (3, 'order.cancelled', n.state = 'cancelled'),
        (4, 'order.rejected', n.state = 'rejected')
    ) AS told (rank, type, so)
    WHERE told.so ORDER BY n.id, told.rank;
    RETURN NULL;
END $$;
CREATE TRIGGER orders_tell_new AFTER INSERT ON orders REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_new_orders();

-- Money that came back from the buyer's bank makes an order `paid` once more, and is no payment.
CREATE FUNCTION tell_changed_orders() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject)
    SELECT told.type, n.show, 'order:' || n.id
    FROM new_rows n JOIN old_rows o USING (id)
    CROSS JOIN LATERAL (VALUES
        (1, 'order.paid', o.state = 'confirmed'
            AND n.state IN ('paid', 'partially_refunded', 'refunded')),
        (2, 'order.cancelled', o.state <> 'cancelled' AND n.state = 'cancelled'),
        (3, 'order.rejected', o.state <> 'rejected' AND n.state = 'rejected'),
        (4, 'order.refunded', n.refunded_minor > o.refunded_minor)
    ) AS told (rank, type, so)
    WHERE told.so ORDER BY n.id, told.rank;
    RETURN NULL;
END $$;
CREATE TRIGGER orders_tell_changed AFTER UPDATE ON orders
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_changed_orders();

CREATE FUNCTION tell_failed_payments() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject, detail)
    SELECT 'payment.failed', n.show, 'order:' || n.order_id,
           jsonb_build_object('payment', n.id, 'reason', n.reason)
    FROM new_rows n JOIN old_rows o USING (id)
    WHERE n.state = 'declined' AND o.state <> 'declined' ORDER BY n.id;
    RETURN NULL;
END $$;
CREATE TRIGGER payments_tell_failed AFTER UPDATE ON payments
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_failed_payments();

CREATE FUNCTION tell_failed_refunds() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject, detail)
    SELECT 'refund.failed', p.show, 'order:' || p.order_id,
           jsonb_build_object('refund', jsonb_build_object(
               'amount_minor', n.amount_minor, 'reason', n.reason))
    FROM new_rows n JOIN old_rows o USING (id) JOIN payments p ON p.id = n.payment
    WHERE n.kind = 'refund' AND n.state = 'failed' AND o.state <> 'failed' ORDER BY n.id;
    RETURN NULL;
END $$;
CREATE TRIGGER money_jobs_tell_failed AFTER UPDATE ON money_jobs
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_failed_refunds();

-- Both kinds change what is on hand; what offers are allotted and sell shows in them.
CREATE FUNCTION tell_adjusted_stock() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, subject, detail)
    SELECT 'stock.adjusted', 'product:' || sku,
           jsonb_build_object('delta', qty, 'kind', kind, 'reason', reason)
    FROM new_rows WHERE kind IN ('adjusted', 'returned') AND qty <> 0 ORDER BY id;
    RETURN NULL;
END $$;
CREATE TRIGGER stock_movements_tell_adjusted AFTER INSERT ON stock_movements
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_adjusted_stock();

CREATE FUNCTION tell_new_products() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, subject)
    SELECT 'product.created', 'product:' || sku FROM new_rows ORDER BY sku;
    RETURN NULL;
END $$;
CREATE TRIGGER products_tell_new AFTER INSERT ON products REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_new_products();

-- All but the figures of its stock, which change with every offer and are told as such; whatever
-- columns a product gains are seen without this function being changed.
CREATE FUNCTION tell_changed_products() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, subject)
    SELECT CASE WHEN was.facts ->> 'status' <> 'archived' AND is_now.facts ->> 'status' = 'archived'
                THEN 'product.archived' ELSE 'product.updated' END, 'product:' || n.sku
    FROM new_rows n JOIN old_rows o USING (sku)
    CROSS JOIN LATERAL (
        SELECT to_jsonb(o) - '{on_hand,allotted,updated_at}'::text[] AS facts) was
    CROSS JOIN LATERAL (
        SELECT to_jsonb(n) - '{on_hand,allotted,updated_at}'::text[] AS facts) is_now
    WHERE was.facts <> is_now.facts ORDER BY n.sku;
    RETURN NULL;
END $$;
CREATE TRIGGER products_tell_changed AFTER UPDATE ON products
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_changed_products();

CREATE FUNCTION tell_granted_places() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject, detail)
    SELECT 'waitlist.granted', n.show, 'offer:' || n.offer,
           jsonb_build_object('show', n.show, 'offer', n.offer, 'sub', n.sub, 'hold', n.key,
                              'qty', n.qty)
    FROM new_rows n JOIN old_rows o USING (show, buyer, key) JOIN shows s ON s.id = n.show
    WHERE n.state = 'granted' AND o.state <> 'granted'
      AND NOT s.rehearsed AND s.status <> 'rehearsal'
    ORDER BY n.seq;
    RETURN NULL;
END $$;
CREATE TRIGGER waitlist_tell_granted AFTER UPDATE ON waitlist
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tell_granted_places();
