-- What records need beyond the ten columns, and the log of changes in commit order.
-- Writers that know only the ten columns go on as before. To apply it by hand, run what `onex-registry migrate --print`
-- prints: it sees to it that everything is made in the schema of node_registrations.

-- Discovery is ordered bytewise, whatever the collation of the database. First, because nobody has to wait to read
-- while an index is made; what comes after needs the table for itself, and is quick.
CREATE INDEX IF NOT EXISTS idx_node_registrations_node_id_c
    ON node_registrations (node_id COLLATE "C");
CREATE INDEX IF NOT EXISTS idx_node_registrations_node_type_node_id_c
    ON node_registrations (node_type, node_id COLLATE "C");

ALTER TABLE node_registrations
    ADD COLUMN IF NOT EXISTS ttl_seconds INTEGER,
    ADD COLUMN IF NOT EXISTS maintenance TEXT;

-- Room in the page for heartbeats, so that they stay HOT updates. Pages written from now on have it.
ALTER TABLE node_registrations SET (fillfactor = 70);

-- Revisions grow in commit order: a number is taken only under the advisory lock of the transaction that commits it
-- (onex_registry_lock_revisions), so CACHE must stay 1. Gaps are normal.
CREATE SEQUENCE IF NOT EXISTS node_events_revision_seq AS BIGINT CACHE 1;

-- The revision of a registration is that of its newest event of a kind that changes it. Such an event is kept as long
-- as the node is registered, so a revision costs no second write, and log and revision can't disagree.
CREATE TABLE IF NOT EXISTS node_events (
    revision BIGINT PRIMARY KEY,
    node_id VARCHAR(255) NOT NULL,
    kind TEXT NOT NULL,
    changed TEXT[] NOT NULL DEFAULT '{}',
    actor TEXT NOT NULL,
    correlation_id TEXT,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL
);
CREATE INDEX IF NOT EXISTS idx_node_events_node_id ON node_events (node_id, revision);
CREATE INDEX IF NOT EXISTS idx_node_events_registration ON node_events (node_id, revision)
    WHERE kind IN ('registered', 'updated', 'maintenance');

-- The trigger functions run with the rights of their owner, because a plain SQL writer has none on our tables. So
-- nothing in them is looked up where others could have put something of their own: search_path has no schema but
-- PostgreSQL's, all that is ours is qualified, and arguments have the exact types (PostgreSQL manual, CREATE FUNCTION,
-- "Writing SECURITY DEFINER Functions Safely"). The schema is the one that node_registrations is in.
DO $migration$
DECLARE
    home TEXT := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'node_registrations'::regclass);
BEGIN
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_lock_revisions() RETURNS void
        LANGUAGE sql VOLATILE
        SET search_path = pg_catalog, pg_temp
        AS $function$ SELECT pg_advisory_xact_lock(%2$L::regclass::oid::int, 1) $function$
    $create$, home, home || '.node_events');

    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_record(the_node TEXT, the_kind TEXT, the_columns TEXT[])
        RETURNS void
        LANGUAGE plpgsql VOLATILE
        SET search_path = pg_catalog, pg_temp
        AS $function$
        BEGIN
            INSERT INTO %1$s.node_events (revision, node_id, kind, changed, actor, occurred_at)
            VALUES (nextval(%2$L::regclass), the_node, the_kind, the_columns,
                    'sql:'::text || session_user::text, clock_timestamp());
            -- A transaction that has notified can't be prepared. Where transactions can be, followers poll.
            -- Equal notifications of one transaction are one.
            IF current_setting('max_prepared_transactions'::text) = '0'::text THEN
                PERFORM pg_notify('onex_registry'::text, ''::text);
            END IF;
        END
        $function$
    $create$, home, home || '.node_events_revision_seq');

    -- Called per row, at commit: one that idles in its transaction holds up nobody. The lock comes first, and the
    -- number in a later statement: under it, numbers are in the order of commits.
    -- record_image_ne compares what is stored, byte by byte: 1.0 and 1.00 are equal numbers, but not the same column.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_record_row() RETURNS trigger
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $function$
        DECLARE
            columns_changed TEXT[];
        BEGIN
            PERFORM %1$s.onex_registry_lock_revisions();
            IF TG_OP = 'INSERT' THEN
                PERFORM %1$s.onex_registry_record(NEW.node_id::text, 'registered'::text, '{}'::text[]);
            ELSIF TG_OP = 'DELETE' THEN
                PERFORM %1$s.onex_registry_record(OLD.node_id::text, 'deregistered'::text, '{}'::text[]);
            ELSIF NEW.node_id::text <> OLD.node_id::text THEN
                PERFORM %1$s.onex_registry_record(OLD.node_id::text, 'deregistered'::text, '{}'::text[]);
                PERFORM %1$s.onex_registry_record(NEW.node_id::text, 'registered'::text, '{}'::text[]);
            ELSE
                columns_changed := array_remove(ARRAY[
                    CASE WHEN record_image_ne(ROW(NEW.node_type), ROW(OLD.node_type)) THEN 'node_type'::text END,
                    CASE WHEN record_image_ne(ROW(NEW.node_version), ROW(OLD.node_version)) THEN 'node_version' END,
                    CASE WHEN record_image_ne(ROW(NEW.capabilities), ROW(OLD.capabilities)) THEN 'capabilities' END,
                    CASE WHEN record_image_ne(ROW(NEW.endpoints), ROW(OLD.endpoints)) THEN 'endpoints' END,
                    CASE WHEN record_image_ne(ROW(NEW.metadata), ROW(OLD.metadata)) THEN 'metadata' END,
                    CASE WHEN record_image_ne(ROW(NEW.health_endpoint), ROW(OLD.health_endpoint))
                         THEN 'health_endpoint' END,
                    CASE WHEN record_image_ne(ROW(NEW.ttl_seconds), ROW(OLD.ttl_seconds)) THEN 'ttl_seconds' END
                ]::text[], NULL::text);
                IF cardinality(columns_changed) > 0 THEN
                    PERFORM %1$s.onex_registry_record(NEW.node_id::text, 'updated'::text, columns_changed);
                END IF;
                IF record_image_ne(ROW(NEW.maintenance), ROW(OLD.maintenance)) THEN
                    PERFORM %1$s.onex_registry_record(NEW.node_id::text, 'maintenance'::text, '{}'::text[]);
                END IF;
            END IF;
            RETURN NULL;
        END
        $function$
    $create$, home);

    -- TRUNCATE has the table to itself already, so nobody who could wait for a row is behind the lock.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_record_truncate() RETURNS trigger
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $function$
        BEGIN
            PERFORM %1$s.onex_registry_lock_revisions();
            PERFORM %1$s.onex_registry_record(gone.node_id, 'deregistered'::text, '{}'::text[])
               FROM (SELECT n.node_id::text AS node_id FROM %1$s.node_registrations n
                      ORDER BY n.node_id COLLATE "C") AS gone;
            RETURN NULL;
        END
        $function$
    $create$, home);

    -- Who could make them the triggers of a table of his own could forge events.
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %1$s.onex_registry_record(TEXT, TEXT, TEXT[]),
                    %1$s.onex_registry_record_row(), %1$s.onex_registry_record_truncate() FROM PUBLIC', home);
END
$migration$;

-- The registry records its own batches as one, and says so by onex_registry.writer (SET LOCAL). After that the
-- setting is '' and not NULL.
DROP TRIGGER IF EXISTS onex_registry_record_insert ON node_registrations;
CREATE CONSTRAINT TRIGGER onex_registry_record_insert
    AFTER INSERT ON node_registrations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('onex_registry.writer', true) IS DISTINCT FROM 'registry')
    EXECUTE FUNCTION onex_registry_record_row();

DROP TRIGGER IF EXISTS onex_registry_record_update ON node_registrations;
CREATE CONSTRAINT TRIGGER onex_registry_record_update
    AFTER UPDATE ON node_registrations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('onex_registry.writer', true) IS DISTINCT FROM 'registry'
          AND record_image_ne(
              ROW(OLD.node_id, OLD.node_type, OLD.node_version, OLD.capabilities, OLD.endpoints, OLD.metadata,
                  OLD.health_endpoint, OLD.ttl_seconds, OLD.maintenance),
              ROW(NEW.node_id, NEW.node_type, NEW.node_version, NEW.capabilities, NEW.endpoints, NEW.metadata,
                  NEW.health_endpoint, NEW.ttl_seconds, NEW.maintenance)))
    EXECUTE FUNCTION onex_registry_record_row();

DROP TRIGGER IF EXISTS onex_registry_record_delete ON node_registrations;
CREATE CONSTRAINT TRIGGER onex_registry_record_delete
    AFTER DELETE ON node_registrations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('onex_registry.writer', true) IS DISTINCT FROM 'registry')
    EXECUTE FUNCTION onex_registry_record_row();

DROP TRIGGER IF EXISTS onex_registry_record_truncate ON node_registrations;
CREATE TRIGGER onex_registry_record_truncate
    BEFORE TRUNCATE ON node_registrations
    FOR EACH STATEMENT
    EXECUTE FUNCTION onex_registry_record_truncate();
