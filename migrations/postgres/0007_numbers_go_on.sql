-- Numbers go on from the newest event, wherever the sequence stands. It may stand behind: sequences are not replicated
-- logically (PostgreSQL manual, section 31.6), and a dump of data alone leaves them out. Then an event would get a
-- number below those that everybody has read, or one that is taken already.

DO $migration$
DECLARE
    home TEXT := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'node_registrations'::regclass);
BEGIN
    -- setval is for the sequence's owner, and those who take numbers needn't be. There is nothing to say to it: whoever
    -- calls it can do no more than set right what is wrong. Under the lock, or another one may be numbered meanwhile.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_mend_numbers() RETURNS void
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $function$
        DECLARE
            newest BIGINT;
        BEGIN
            PERFORM pg_advisory_xact_lock(%2$L::regclass::oid::int, 1);
            newest := GREATEST((SELECT e.revision FROM %1$s.node_events e ORDER BY e.revision DESC LIMIT 1),
                               (SELECT s.pruned_through FROM %1$s.onex_registry_state s LIMIT 1));
            IF newest > COALESCE(pg_sequence_last_value(%3$L::regclass), 0) THEN
                PERFORM setval(%3$L::regclass, newest);
            END IF;
        END
        $function$
    $create$, home, home || '.node_events', home || '.node_events_revision_seq');

    -- Each statement sees what was committed before it, and the second one comes after the lock. A transaction that is
    -- SERIALIZABLE must not look: it would seem to depend on all others that are, and fail because of them.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_lock_revisions() RETURNS void
        LANGUAGE plpgsql VOLATILE
        SET search_path = pg_catalog, pg_temp
        AS $function$
        DECLARE
            done TEXT;
            newest BIGINT;
        BEGIN
            -- What is assigned is evaluated by itself; PERFORM would be a statement, and several times as slow.
            done := pg_advisory_xact_lock(%2$L::regclass::oid::int, 1)::text;
            IF current_setting('transaction_isolation'::text) = 'serializable'::text THEN
                RETURN;
            END IF;
            newest := GREATEST((SELECT e.revision FROM %1$s.node_events e ORDER BY e.revision DESC LIMIT 1),
                               (SELECT s.pruned_through FROM %1$s.onex_registry_state s LIMIT 1));
            IF newest > COALESCE(pg_sequence_last_value(%3$L::regclass), 0) THEN
                done := %1$s.onex_registry_mend_numbers()::text;
            END IF;
        END
        $function$
    $create$, home, home || '.node_events', home || '.node_events_revision_seq');
END
$migration$;
