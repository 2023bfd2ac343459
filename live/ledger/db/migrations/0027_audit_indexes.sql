-- 0027_audit_indexes.sql
-- Why:    the audit adds up one product and looks for refused refunds without reading all rows.
-- Deploy: any time.   Lock: writes wait while they are built; both are small parts of their tables.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '60s';

CREATE INDEX stock_movements_of_shelf ON stock_movements (sku)
    WHERE kind IN ('adjusted', 'returned');
CREATE INDEX money_jobs_refused_refunds ON money_jobs (payment)
    WHERE state = 'failed' AND kind = 'refund';
