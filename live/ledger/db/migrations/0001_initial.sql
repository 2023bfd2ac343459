-- 0001_initial.sql
-- Why:    the ledger: products, shows, offers, holds, payments, orders, and what happened to them.
-- Deploy: before the code.   Lock: none, all tables are new.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '30s';

-- Money is bigint minor units beside an ISO 4217 code. Times are Postgres' own.

CREATE TABLE products (
    sku          text PRIMARY KEY CHECK (sku ~ '^[A-Za-z0-9_-]{1,64}$'),
    title        text NOT NULL,
    description  text NOT NULL DEFAULT '',
    image_url    text NOT NULL DEFAULT '',
    price_minor  bigint NOT NULL CHECK (price_minor >= 0),
    currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    on_hand      bigint NOT NULL CHECK (on_hand >= 0),
    -- Sum of offers.allotted of this product: what offers may sell or have sold.
    allotted     bigint NOT NULL DEFAULT 0 CHECK (allotted >= 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT products_allotted_within_on_hand CHECK (allotted <= on_hand)
);

CREATE TABLE shows (
    id                 text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
    title              text NOT NULL,
    status             text NOT NULL DEFAULT 'scheduled'
                       CHECK (status IN ('scheduled', 'rehearsal', 'live', 'paused', 'ended')),
    language           text NOT NULL DEFAULT 'en',
    currency           text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    playback_url       text NOT NULL DEFAULT '',
    paid_partnership   boolean NOT NULL DEFAULT false,
    pins               text[] NOT NULL DEFAULT '{}' CHECK (cardinality(pins) <= 3),
    run_order          text[] NOT NULL DEFAULT '{}' CHECK (cardinality(run_order) <= 100),
    announcement       text,
    announcement_until timestamptz,
    frozen             boolean NOT NULL DEFAULT false,
    slow_mode_seconds  integer NOT NULL DEFAULT 0 CHECK (slow_mode_seconds >= 0),
    rehearsal_passcode text,
    starts_at          timestamptz,
    -- Which life of Redis' stock this show is in; raised by a rebuild only.
    stock_epoch        bigint NOT NULL DEFAULT 1 CHECK (stock_epoch >= 1),
    -- Raised by every change of the show or of one of its offers.
    version            bigint NOT NULL DEFAULT 1,
    created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE offers (
    id              text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
    show            text NOT NULL REFERENCES shows,
    slot            integer NOT NULL CHECK (slot BETWEEN 0 AND 999),
    sku             text NOT NULL REFERENCES products,
    title           text NOT NULL,
    image_url       text NOT NULL DEFAULT '',
    price_minor     bigint NOT NULL CHECK (price_minor >= 0),
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    mode            text NOT NULL CHECK (mode IN ('hold', 'first_paid')),
    phase           text NOT NULL DEFAULT 'draft'
                    CHECK (phase IN ('draft', 'scheduled', 'open', 'paused', 'closing', 'closed')),
    quantity        bigint NOT NULL CHECK (quantity >= 1),
    allotted        bigint NOT NULL CHECK (allotted >= 0),
    sold            bigint NOT NULL DEFAULT 0 CHECK (sold >= 0),
    per_buyer_limit integer NOT NULL CHECK (per_buyer_limit >= 1),
    hold_seconds    integer NOT NULL CHECK (hold_seconds >= 1),
    waitlist        boolean NOT NULL DEFAULT true,
    guests          boolean NOT NULL DEFAULT true,
    countdown_seconds integer NOT NULL DEFAULT 0,
    duration_seconds  integer,
    opens_at        timestamptz,
    closes_at       timestamptz,
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (show, slot),
    CONSTRAINT offers_never_oversold CHECK (sold <= allotted)
);
CREATE INDEX offers_by_sku ON offers (sku);

-- Holds are journaled from the outbox, so a rebuild of Redis finds them.
CREATE TABLE holds (
    show        text NOT NULL REFERENCES shows,
    buyer       bytea NOT NULL CHECK (length(buyer) = 16),
    key         uuid NOT NULL,
    state       text NOT NULL
                CHECK (state IN ('held', 'paying', 'confirmed', 'released', 'expired', 'cancelled')),
    slots       integer[] NOT NULL,
    quantities  integer[] NOT NULL,
    expires_at  timestamptz,
    seq         bigint NOT NULL,
    PRIMARY KEY (show, buyer, key),
    CHECK (cardinality(slots) = cardinality(quantities))
) WITH (fillfactor = 70);
CREATE INDEX holds_live ON holds (show) WHERE state IN ('held', 'paying');

CREATE TABLE waitlist (
    show       text NOT NULL REFERENCES shows,
    offer      text NOT NULL REFERENCES offers,
    buyer      bytea NOT NULL CHECK (length(buyer) = 16),
    sub        text NOT NULL,
    key        uuid NOT NULL,
    qty        integer NOT NULL CHECK (qty >= 1),
    state      text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'waiting', 'granted', 'left')),
    seq        bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (show, buyer, key)
);

-- One attempt to pay for one hold. A durable row precedes every call to a provider.
CREATE TABLE payments (
    id             uuid PRIMARY KEY,
    order_id       uuid NOT NULL,
    show           text NOT NULL REFERENCES shows,
    buyer          bytea NOT NULL CHECK (length(buyer) = 16),
    sub            text NOT NULL,
    hold           uuid NOT NULL,
    attempt        uuid NOT NULL,          -- the key of the checkout call, for its repeats
    mode           text NOT NULL DEFAULT 'hold' CHECK (mode IN ('hold', 'first_paid')),
    slots          integer[] NOT NULL,
    quantities     integer[] NOT NULL,
    prices_minor   bigint[] NOT NULL,
    amount_minor   bigint NOT NULL CHECK (amount_minor >= 0),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    provider       text NOT NULL,
    token          text,                   -- what the provider's own page gave the client
    provider_ref   text,
    state          text NOT NULL DEFAULT 'created'
                   CHECK (state IN ('created', 'authorising', 'authorised', 'capturing', 'captured',
                                    'partially_refunded', 'refunded', 'declined', 'voided',
                                    'unknown', 'action_required')),
    reason         text NOT NULL DEFAULT '',
    action         jsonb,
    captured_minor bigint NOT NULL DEFAULT 0 CHECK (captured_minor >= 0),
    refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor >= 0),
    contact        jsonb,                  -- name, e-mail, address: only here, never in Redis or logs
    lease_until    timestamptz NOT NULL,   -- whoever holds the lease decides; then the payment worker
    tries          integer NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payments_capture_within_amount CHECK (captured_minor <= amount_minor),
    CONSTRAINT payments_refund_within_capture CHECK (refunded_minor <= captured_minor)
);
CREATE UNIQUE INDEX payments_one_active_per_hold ON payments (show, buyer, hold)
    WHERE state NOT IN ('declined', 'voided', 'refunded');
CREATE INDEX payments_by_hold ON payments (show, buyer, hold);
CREATE INDEX payments_to_finish ON payments (lease_until)
    WHERE state IN ('created', 'authorising', 'authorised', 'unknown', 'action_required');
CREATE UNIQUE INDEX payments_by_provider_ref ON payments (provider, provider_ref)
    WHERE provider_ref IS NOT NULL;

CREATE TABLE orders (
    id             uuid PRIMARY KEY,
    show           text NOT NULL REFERENCES shows,
    buyer          bytea NOT NULL CHECK (length(buyer) = 16),
    sub            text NOT NULL,
    key            uuid NOT NULL,          -- the hold
    payment        uuid REFERENCES payments,
    state          text NOT NULL
                   CHECK (state IN ('confirmed', 'paid', 'partially_refunded', 'refunded',
                                    'cancelled', 'rejected')),
    total_minor    bigint NOT NULL CHECK (total_minor >= 0),
    refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor BETWEEN 0 AND total_minor),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    seq            bigint NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (show, buyer, key)
);
CREATE INDEX orders_by_show ON orders (show, created_at, id);
CREATE INDEX orders_by_sub ON orders (sub, created_at, id);

CREATE TABLE order_items (
    order_id    uuid NOT NULL REFERENCES orders,
    offer       text NOT NULL REFERENCES offers,
    qty         integer NOT NULL CHECK (qty >= 1),
    price_minor bigint NOT NULL CHECK (price_minor >= 0),
    PRIMARY KEY (order_id, offer)
);

-- Append only: every figure above can be added up again from here.
CREATE TABLE stock_movements (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku        text NOT NULL REFERENCES products,
    offer      text REFERENCES offers,
    order_id   uuid REFERENCES orders,
    kind       text NOT NULL CHECK (kind IN ('adjusted', 'allotted', 'sold', 'cancelled',
                                             'returned', 'given_back')),
    qty        bigint NOT NULL,            -- signed: what the kind's figure changed by
    reason     text NOT NULL DEFAULT '',
    key        text UNIQUE,                -- the caller's key of an adjustment: applied once
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX stock_movements_by_offer ON stock_movements (offer);
CREATE UNIQUE INDEX stock_movements_sold_once ON stock_movements (order_id, offer, kind)
    WHERE order_id IS NOT NULL AND kind IN ('sold', 'cancelled');

CREATE TABLE payment_entries (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment      uuid NOT NULL REFERENCES payments,
    kind         text NOT NULL CHECK (kind IN ('authorised', 'declined', 'captured', 'voided',
                                               'refunded', 'unknown', 'action_required')),
    amount_minor bigint NOT NULL DEFAULT 0,
    detail       text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX payment_entries_by_payment ON payment_entries (payment);

-- Work that follows a committed order; read by workers with a lease, done at least once.
CREATE TABLE money_jobs (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment     uuid NOT NULL REFERENCES payments,
    kind        text NOT NULL CHECK (kind IN ('capture', 'void', 'refund')),
    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
    reason      text NOT NULL DEFAULT '',
    request     text,                       -- the caller's key of a refund: done once
    state       text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'done', 'failed')),
    tries       integer NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL DEFAULT now(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (payment, kind, request)
);
CREATE UNIQUE INDEX money_jobs_one_capture ON money_jobs (payment) WHERE kind = 'capture';
CREATE UNIQUE INDEX money_jobs_one_void ON money_jobs (payment) WHERE kind = 'void';
CREATE INDEX money_jobs_due ON money_jobs (due_at) WHERE state = 'due';

CREATE TABLE notices (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    show       text NOT NULL REFERENCES shows,
    buyer      bytea NOT NULL CHECK (length(buyer) = 16),
    kind       text NOT NULL,               -- the event's type, such as order.confirmed
    order_id   uuid REFERENCES orders,
    body       jsonb,                       -- the event, where no order says it all
    due_at     timestamptz NOT NULL DEFAULT now(),
    tries      integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notices_due ON notices (due_at);

CREATE TABLE webhook_events (
    provider    text NOT NULL,
    id          text NOT NULL,
    payment     uuid,
    kind        text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, id)
);

-- Outbox entries that could not be settled: kept with the reason, block nobody.
CREATE TABLE poison (
    show       text NOT NULL,
    entry      text NOT NULL,
    seq        bigint NOT NULL,
    body       text NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (show, entry, seq)
);

-- Answers of HTTP calls by Idempotency-Key.
CREATE TABLE idempotency (
    caller     text NOT NULL,
    key        text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request    bytea NOT NULL,              -- SHA-256 of method, path and body
    status     integer,                     -- NULL while the first call still runs
    body       bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, key)
);

-- Who did what: append only, each row's hash covers the one before it.
CREATE TABLE host_actions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    show       text NOT NULL REFERENCES shows,
    caller     text NOT NULL,
    role       text NOT NULL,
    action     text NOT NULL,
    detail     text NOT NULL,               -- canonical JSON: the request and what it changed
    address    text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    previous   bytea NOT NULL,
    hash       bytea NOT NULL UNIQUE
);
CREATE INDEX host_actions_by_show ON host_actions (show, id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are append only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER host_actions_append_only BEFORE UPDATE OR DELETE ON host_actions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER stock_movements_append_only BEFORE UPDATE OR DELETE ON stock_movements
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER payment_entries_append_only BEFORE UPDATE OR DELETE ON payment_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE bans (
    show       text NOT NULL REFERENCES shows,
    sub        text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('mute', 'shadow_ban', 'ban')),
    until      timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (show, sub, kind)
);
