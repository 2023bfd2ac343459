-- 0026_audit_proofs.sql
-- Why:    the audit on the schedule proves what changed, and remembers the rest as proven.
-- Deploy: before the code. Old code ignores the tables.   Lock: none, the tables are new.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- A show of which nothing was wrong and nothing on its way. The figures are its payments', so that
-- totals of the shop need no look at shows that did not change; the newest row of its hosts' log is
-- noted here, outside of the log, so that rows cut off its end are found.
CREATE TABLE audit_proofs (
    show      text PRIMARY KEY,
    version   bigint NOT NULL,             -- shows.version when it was proven
    captured  bigint NOT NULL,
    refunded  bigint NOT NULL,
    log_id    bigint NOT NULL,             -- 0: its log is empty
    log_hash  bytea NOT NULL,
    proven_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_proofs_oldest ON audit_proofs (proven_at);

-- How far append-only tables, and providers' books, were looked through for shows that changed.
CREATE TABLE audit_marks (
    name text PRIMARY KEY,
    mark bigint NOT NULL
);
