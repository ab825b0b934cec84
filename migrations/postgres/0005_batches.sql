-- The busiest writes of the server, a batch in one call: what was a dozen round trips is one. Plain SQL writers have
-- nothing to do with these functions. Signs of life are here, registrations in a later migration.
--
-- They run with the rights of the caller, and with his search_path: triggers that the owner of the database has put on
-- the table run inside, and find their own tables by it. What is ours is qualified. Each statement in them has a
-- snapshot of its own (VOLATILE, READ COMMITTED), so it sees what was committed while the one before waited for a lock.
--
-- Plans are made once, for arrays of any length, and a plan that was made for an empty table must do for a hundred
-- thousand rows: nobody tells when it has grown. So rows are looked up one by one, in an index or where they are. That
-- is what LATERAL with LIMIT 1 is for, in whose place the planner can't put a join, and enable_seqscan. Of an empty
-- table all indexes seem equally good, so only the one that is meant may do for a lookup: a column is asked for that no
-- other index has, and with = for a node, the primary key of the events would be in the order of its revisions as well.

DO $migration$
DECLARE
    home TEXT := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'node_registrations'::regclass);
BEGIN
    -- As before, but in a language that keeps its plans: it is called with each batch, and for each row of others.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_lock_revisions() RETURNS void
        LANGUAGE plpgsql VOLATILE
        AS $function$
        BEGIN
            PERFORM pg_catalog.pg_advisory_xact_lock(%2$L::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int4, 1);
        END
        $function$
    $create$, home, home || '.node_events');

    -- Notes a sign of life of nodes; the ids are distinct. They are no events and set nothing but last_heartbeat, which
    -- no index is on: the updates stay HOT (manual, section 73.7). The rows are locked first, in the order in which
    -- every batch locks them. locked: the places of those that were there to be had; noted: those of them that no
    -- trigger of the owner has swallowed; there: all that are registered, if some were not to be had.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_heartbeat(
            replica TEXT, row_timeout TEXT, waits BOOLEAN, ids TEXT[],
            OUT at TIMESTAMPTZ, OUT served_until TIMESTAMPTZ, OUT outage_began TIMESTAMPTZ,
            OUT outage_ended TIMESTAMPTZ, OUT locked INTEGER[], OUT noted INTEGER[], OUT heartbeats TIMESTAMPTZ[],
            OUT ttls INTEGER[], OUT in_maintenance BOOLEAN[], OUT there INTEGER[])
        LANGUAGE plpgsql VOLATILE
        SET jit = off
        SET enable_seqscan = off
        SET plan_cache_mode = force_generic_plan
        AS $function$
        #variable_conflict use_variable
        DECLARE
            rows TID[];
            their_ids TEXT[];
            done TEXT;
        BEGIN
            IF current_setting('transaction_isolation') <> 'read committed' THEN
                RAISE EXCEPTION 'a batch needs READ COMMITTED' USING ERRCODE = '25001';
            END IF;
            -- Not a SET of the function: who owns the table may not make one of a parameter that PostgreSQL doesn't know.
            done := set_config('onex_registry.writer', 'registry', true);
            done := set_config('lock_timeout', row_timeout, true);
            IF waits THEN
                SELECT array_agg(i.place::int), array_agg(n.ctid) INTO locked, rows
                  FROM (SELECT * FROM unnest(ids) WITH ORDINALITY AS u (node_id, place)
                         ORDER BY u.node_id COLLATE "C") AS i
                 CROSS JOIN LATERAL (SELECT r.ctid FROM %1$s.node_registrations r WHERE r.node_id::text = i.node_id
                                      LIMIT 1 FOR NO KEY UPDATE) AS n;
            ELSE
                SELECT array_agg(i.place::int), array_agg(n.ctid) INTO locked, rows
                  FROM (SELECT * FROM unnest(ids) WITH ORDINALITY AS u (node_id, place)
                         ORDER BY u.node_id COLLATE "C") AS i
                 CROSS JOIN LATERAL (SELECT r.ctid FROM %1$s.node_registrations r WHERE r.node_id::text = i.node_id
                                      LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) AS n;
            END IF;
            at := clock_timestamp();
            -- A row that is locked stays where it is. The last condition always holds: the planner, which expects ten
            -- rows of an array, expects one with it, and one row it looks up where it is, whatever the table is like.
            WITH beaten AS (
                UPDATE %1$s.node_registrations AS n SET last_heartbeat = GREATEST(n.last_heartbeat, at)
                  FROM unnest(rows, locked) AS l (row, place)
                 WHERE n.ctid = l.row AND l.place %% 1 = 0
                RETURNING l.place, n.node_id::text AS node_id, n.last_heartbeat, n.ttl_seconds,
                          n.maintenance IS NOT NULL AS in_maintenance
            )
            SELECT array_agg(b.place), array_agg(b.node_id), array_agg(b.last_heartbeat), array_agg(b.ttl_seconds),
                   array_agg(b.in_maintenance)
              INTO noted, their_ids, heartbeats, ttls, in_maintenance
              FROM beaten b;
            IF noted IS NOT NULL THEN
                INSERT INTO %1$s.onex_registry_signs (at, replica, alive) VALUES (at, replica, their_ids);
            END IF;
            -- In a later statement, which sees what was committed meanwhile: a node may have registered anew under the
            -- same id.
            IF COALESCE(cardinality(locked), 0) < cardinality(ids) THEN
                SELECT array_agg(i.place::int) INTO there
                  FROM unnest(ids) WITH ORDINALITY AS i (node_id, place)
                 WHERE (SELECT n.ctid FROM %1$s.node_registrations n WHERE n.node_id::text = i.node_id LIMIT 1)
                     IS NOT NULL;
            END IF;
            SELECT s.served_until, s.outage_began, s.outage_ended INTO served_until, outage_began, outage_ended
              FROM %1$s.onex_registry_state s LIMIT 1;
        END
        $function$
    $create$, home);
END
$migration$;
