-- 0015_host_actions_of_the_catalogue.sql
-- Why:    who made a product or changed its stock belongs into the log, too, and concerns no show:
--         such actions are a chain of their own, under the name *.
-- Deploy: before the code. Old code writes shows only.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

ALTER TABLE host_actions DROP CONSTRAINT host_actions_show_fkey;
