-- What batches and plain SQL writers cost beside the rows themselves, made less.

DO $migration$
DECLARE
    home TEXT := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'node_registrations'::regclass);
BEGIN
    -- As before, but what has changed is found out before the lock is taken: whoever waits for it waits less. And a row
    -- that has not changed takes none.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_record_row() RETURNS trigger
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $function$
        DECLARE
            columns_changed TEXT[];
            maintenance_changed BOOLEAN := false;
        BEGIN
            IF TG_OP = 'UPDATE' AND NEW.node_id::text = OLD.node_id::text THEN
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
                maintenance_changed := record_image_ne(ROW(NEW.maintenance), ROW(OLD.maintenance));
                IF cardinality(columns_changed) = 0 AND NOT maintenance_changed THEN
                    RETURN NULL;
                END IF;
            END IF;

            PERFORM %1$s.onex_registry_lock_revisions();
            IF TG_OP = 'INSERT' THEN
                PERFORM %1$s.onex_registry_record(NEW.node_id::text, 'registered'::text, '{}'::text[]);
            ELSIF TG_OP = 'DELETE' THEN
                PERFORM %1$s.onex_registry_record(OLD.node_id::text, 'deregistered'::text, '{}'::text[]);
            ELSIF NEW.node_id::text <> OLD.node_id::text THEN
                PERFORM %1$s.onex_registry_record(OLD.node_id::text, 'deregistered'::text, '{}'::text[]);
                PERFORM %1$s.onex_registry_record(NEW.node_id::text, 'registered'::text, '{}'::text[]);
            ELSE
                IF cardinality(columns_changed) > 0 THEN
                    PERFORM %1$s.onex_registry_record(NEW.node_id::text, 'updated'::text, columns_changed);
                END IF;
                IF maintenance_changed THEN
                    PERFORM %1$s.onex_registry_record(NEW.node_id::text, 'maintenance'::text, '{}'::text[]);
                END IF;
            END IF;
            RETURN NULL;
        END
        $function$
    $create$, home);

    -- How registrations are written: see the migration before for what holds of such functions.
    --
    -- Registers nodes; the ids are distinct, and in bytewise order. Items are named by their places in the arrays.
    -- conditions, if any: 1 the node must be absent, 2 present, 3 have one of the revisions that are allowed to its
    -- place.
    -- refused: whose condition doesn't hold, and what revision they have (none: absent). held: whose row another
    -- transaction holds. stored: the others, unless a trigger of the owner has swallowed them. created and changes tell
    -- what became of those; numbers are the revisions of those that are created or changed, and kept those of the rest.
    -- shown: the columns as they are stored, if a trigger may have made something else of them than was offered.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.onex_registry_register(
            replica TEXT, row_timeout TEXT, waits BOOLEAN,
            ids TEXT[], types TEXT[], versions TEXT[], all_capabilities TEXT[], all_endpoints TEXT[],
            all_metadata TEXT[], urls TEXT[], ttls INTEGER[], alive BOOLEAN[], actors TEXT[], correlation_ids TEXT[],
            conditions INTEGER[], allowed_places INTEGER[], allowed_revisions BIGINT[],
            OUT at TIMESTAMPTZ, OUT served_until TIMESTAMPTZ, OUT outage_began TIMESTAMPTZ,
            OUT outage_ended TIMESTAMPTZ, OUT refused INTEGER[], OUT present BIGINT[], OUT held INTEGER[],
            OUT stored INTEGER[], OUT created BOOLEAN[], OUT changes TEXT[], OUT heartbeats TIMESTAMPTZ[],
            OUT births TIMESTAMPTZ[], OUT reasons TEXT[], OUT kept BIGINT[], OUT numbers BIGINT[],
            OUT previous BIGINT, OUT recorded_at TIMESTAMPTZ, OUT shown TEXT[])
        LANGUAGE plpgsql VOLATILE
        SET jit = off
        SET enable_seqscan = off
        SET plan_cache_mode = force_generic_plan
        AS $function$
        #variable_conflict use_variable
        DECLARE
            items CONSTANT INTEGER := cardinality(ids);
            -- JSON is read once, however often it is looked at.
            capabilities CONSTANT JSONB[] := all_capabilities::jsonb[];
            endpoints CONSTANT JSONB[] := all_endpoints::jsonb[];
            metadata CONSTANT JSONB[] := all_metadata::jsonb[];
            are_locked BOOLEAN[];
            chosen BOOLEAN[];
            -- Of those that are locked: what is offered beside what is there.
            differences TEXT[];
            their_ids TEXT[];
            place INTEGER;
            old RECORD;
            new RECORD;
            old_revision BIGINT;
            changed TEXT;
            is_there BOOLEAN;
            odd BOOLEAN;
            -- What is assigned is evaluated by itself; PERFORM would be a statement, and several times as slow.
            done TEXT;
        BEGIN
            IF current_setting('transaction_isolation') <> 'read committed' THEN
                RAISE EXCEPTION 'a batch needs READ COMMITTED' USING ERRCODE = '25001';
            END IF;
            done := set_config('onex_registry.writer', 'registry', true);
            done := set_config('lock_timeout', row_timeout, true);
            -- Rows that are waited for here are not skipped below: they are ours then.
            IF waits THEN
                PERFORM n.ctid FROM unnest(ids) AS i (node_id)
                  CROSS JOIN LATERAL (SELECT r.ctid FROM %1$s.node_registrations r WHERE r.node_id::text = i.node_id
                                       LIMIT 1 FOR NO KEY UPDATE) AS n;
            END IF;

            -- A node alone shouldn't take longer than a statement of its own would. The same as below, but for one.
            IF items = 1 THEN
                SELECT n.node_type, n.node_version, n.capabilities, n.endpoints, n.metadata, n.health_endpoint,
                       n.ttl_seconds INTO old
                  FROM %1$s.node_registrations n WHERE n.node_id::text = ids[1] FOR NO KEY UPDATE SKIP LOCKED;
                is_there := FOUND;
                at := clock_timestamp();
                IF NOT is_there THEN
                    IF (SELECT n.ctid FROM %1$s.node_registrations n WHERE n.node_id::text = ids[1] LIMIT 1)
                       IS NOT NULL THEN
                        held := '{1}';
                        RETURN;
                    END IF;
                ELSIF conditions[1] = 3 OR conditions[1] = 1 THEN
                    old_revision := COALESCE((SELECT e.revision FROM %1$s.node_events e
                                               WHERE e.node_id::text >= ids[1] AND e.node_id::text <= ids[1]
                                                 AND e.kind IN ('registered', 'updated', 'maintenance')
                                                 ORDER BY e.node_id DESC, e.revision DESC LIMIT 1), 0);
                END IF;
                IF (conditions[1] = 1 AND is_there) OR (conditions[1] >= 2 AND NOT is_there)
                   OR (conditions[1] = 3 AND NOT old_revision = ANY (allowed_revisions)) THEN
                    refused := '{1}';
                    present := ARRAY[old_revision];
                    RETURN;
                END IF;
                INSERT INTO %1$s.node_registrations AS n
                       (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint,
                        ttl_seconds, last_heartbeat, registered_at, updated_at)
                VALUES (ids[1], types[1], versions[1], capabilities[1], endpoints[1], metadata[1],
                        urls[1], ttls[1], CASE WHEN alive[1] THEN at END, at, at)
                    ON CONFLICT (node_id) DO UPDATE
                   SET node_type = EXCLUDED.node_type, node_version = EXCLUDED.node_version,
                       capabilities = EXCLUDED.capabilities, endpoints = EXCLUDED.endpoints,
                       metadata = EXCLUDED.metadata, health_endpoint = EXCLUDED.health_endpoint,
                       ttl_seconds = EXCLUDED.ttl_seconds,
                       last_heartbeat = GREATEST(n.last_heartbeat, EXCLUDED.last_heartbeat),
                       updated_at = EXCLUDED.updated_at
                RETURNING n.node_id, n.node_type, n.node_version, n.capabilities, n.endpoints, n.metadata,
                          n.health_endpoint, n.ttl_seconds, n.last_heartbeat, n.registered_at, n.updated_at,
                          n.maintenance, n.xmax = 0 AS created
                     INTO new;
                IF NOT FOUND OR new.node_id::text <> ids[1] THEN
                    RETURN;
                END IF;
                IF NOT is_there AND NOT new.created THEN
                    RAISE EXCEPTION 'another transaction was faster' USING ERRCODE = '40001';
                END IF;
                IF NOT new.created THEN
                    changed := concat_ws(',',
                        CASE WHEN record_image_ne(ROW(new.node_type), ROW(old.node_type)) THEN 'node_type' END,
                        CASE WHEN record_image_ne(ROW(new.node_version), ROW(old.node_version)) THEN 'node_version' END,
                        CASE WHEN record_image_ne(ROW(new.capabilities), ROW(old.capabilities)) THEN 'capabilities' END,
                        CASE WHEN record_image_ne(ROW(new.endpoints), ROW(old.endpoints)) THEN 'endpoints' END,
                        CASE WHEN record_image_ne(ROW(new.metadata), ROW(old.metadata)) THEN 'metadata' END,
                        CASE WHEN record_image_ne(ROW(new.health_endpoint), ROW(old.health_endpoint))
                             THEN 'health_endpoint' END,
                        CASE WHEN record_image_ne(ROW(new.ttl_seconds), ROW(old.ttl_seconds)) THEN 'ttl_seconds' END);
                END IF;
                their_ids := ids;
                stored := '{1}';
                created := ARRAY[new.created];
                changes := ARRAY[changed];
                heartbeats := ARRAY[new.last_heartbeat];
                births := ARRAY[new.registered_at];
                reasons := ARRAY[new.maintenance];
                odd := record_image_ne(
                    ROW(new.node_type::text, new.node_version::text, new.capabilities, new.endpoints, new.metadata,
                        new.health_endpoint::text, new.ttl_seconds, new.updated_at),
                    ROW(types[1], versions[1], capabilities[1], endpoints[1], metadata[1],
                        urls[1], ttls[1], at));
            ELSE
                -- Nobody puts a trigger on the table from here to the commit.
                LOCK TABLE %1$s.node_registrations IN ROW EXCLUSIVE MODE;
                odd := EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t
                                WHERE t.tgrelid = %2$L::regclass AND t.tgtype::int & 3 = 3
                                  AND NOT t.tgisinternal);
                -- In the order of the arrays, which is that of every batch. record_image_ne compares what is stored, byte
                -- by byte (manual, section 9.24.6): 1.0 and 1.00 are equal numbers, but not the same column.
                SELECT array_agg(n.is_there IS NOT NULL), array_agg(n.changed) INTO are_locked, differences
                  FROM unnest(ids, types, versions, capabilities, endpoints, metadata, urls, ttls)
                           AS i (node_id, node_type, node_version, capabilities, endpoints, metadata, url, ttl)
                  LEFT JOIN LATERAL (
                       SELECT TRUE AS is_there, concat_ws(',',
                                  CASE WHEN r.node_type::text <> i.node_type THEN 'node_type' END,
                                  CASE WHEN r.node_version::text <> i.node_version THEN 'node_version' END,
                                  CASE WHEN record_image_ne(ROW(r.capabilities), ROW(i.capabilities))
                                       THEN 'capabilities' END,
                                  CASE WHEN record_image_ne(ROW(r.endpoints), ROW(i.endpoints)) THEN 'endpoints' END,
                                  CASE WHEN record_image_ne(ROW(r.metadata), ROW(i.metadata)) THEN 'metadata' END,
                                  CASE WHEN r.health_endpoint::text IS DISTINCT FROM i.url THEN 'health_endpoint' END,
                                  CASE WHEN r.ttl_seconds IS DISTINCT FROM i.ttl THEN 'ttl_seconds' END) AS changed
                         FROM %1$s.node_registrations r WHERE r.node_id::text = i.node_id
                        LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) AS n ON TRUE;
                chosen := array_fill(true, ARRAY[items]);
                IF false = ANY (are_locked) THEN
                    SELECT array_agg(i.place::int) INTO held
                      FROM unnest(ids, are_locked) WITH ORDINALITY AS i (node_id, locked, place)
                     WHERE NOT i.locked
                       AND (SELECT n.ctid FROM %1$s.node_registrations n WHERE n.node_id::text = i.node_id LIMIT 1)
                           IS NOT NULL;
                    FOREACH place IN ARRAY COALESCE(held, '{}') LOOP
                        chosen[place] := false;
                    END LOOP;
                END IF;

                -- In a statement after the one that locked the rows, so that it sees what the lock waited for.
                IF conditions IS NOT NULL THEN
                    SELECT array_agg(c.place), array_agg(c.revision) INTO refused, present
                      FROM (SELECT i.place::int AS place, i.condition, n.revision
                              FROM unnest(ids, conditions, chosen)
                                       WITH ORDINALITY AS i (node_id, condition, chosen, place)
                              LEFT JOIN LATERAL (
                                   SELECT COALESCE((SELECT e.revision FROM %1$s.node_events e
                                                     WHERE e.node_id::text >= i.node_id AND e.node_id::text <= i.node_id
                                                       AND e.kind IN ('registered', 'updated', 'maintenance')
                                                       ORDER BY e.node_id DESC, e.revision DESC LIMIT 1), 0) AS revision
                                     FROM %1$s.node_registrations r WHERE r.node_id::text = i.node_id LIMIT 1) AS n
                                ON TRUE
                             WHERE i.condition > 0 AND i.chosen) AS c
                     WHERE CASE c.condition
                                WHEN 1 THEN c.revision IS NOT NULL
                                WHEN 2 THEN c.revision IS NULL
                                ELSE c.revision IS NULL
                                     OR NOT EXISTS (SELECT 1 FROM unnest(allowed_places, allowed_revisions)
                                                             AS a (place, revision)
                                                     WHERE a.place = c.place AND a.revision = c.revision) END;
                    FOREACH place IN ARRAY COALESCE(refused, '{}') LOOP
                        chosen[place] := false;
                    END LOOP;
                END IF;

                at := clock_timestamp();
                WITH written AS (
                    INSERT INTO %1$s.node_registrations AS n
                           (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint,
                            ttl_seconds, last_heartbeat, registered_at, updated_at)
                    SELECT i.node_id, i.node_type, i.node_version, i.capabilities, i.endpoints, i.metadata, i.url,
                           i.ttl, CASE WHEN i.alive THEN at END, at, at
                      FROM unnest(ids, types, versions, capabilities, endpoints, metadata, urls, ttls, alive, chosen)
                               AS i (node_id, node_type, node_version, capabilities, endpoints, metadata, url, ttl,
                                     alive, chosen)
                     WHERE i.chosen
                        ON CONFLICT (node_id) DO UPDATE
                       SET node_type = EXCLUDED.node_type, node_version = EXCLUDED.node_version,
                           capabilities = EXCLUDED.capabilities, endpoints = EXCLUDED.endpoints,
                           metadata = EXCLUDED.metadata, health_endpoint = EXCLUDED.health_endpoint,
                           ttl_seconds = EXCLUDED.ttl_seconds,
                           last_heartbeat = GREATEST(n.last_heartbeat, EXCLUDED.last_heartbeat),
                           updated_at = EXCLUDED.updated_at
                    RETURNING n.node_id::text AS node_id, n.last_heartbeat, n.registered_at, n.maintenance,
                        n.xmax = 0 AS created,
                        -- A trigger of the owner may have made something else of what was offered. The old row is what
                        -- this statement's snapshot has, because it was locked before; of a row that is new, there may
                        -- have been another life in it.
                        CASE WHEN odd AND n.xmax <> 0 THEN (
                            SELECT CASE
                                WHEN record_image_eq(
                                    ROW(n.node_type, n.node_version, n.capabilities, n.endpoints, n.metadata,
                                        n.health_endpoint, n.ttl_seconds),
                                    ROW(o.node_type, o.node_version, o.capabilities, o.endpoints, o.metadata,
                                        o.health_endpoint, o.ttl_seconds)) THEN ''
                                ELSE concat_ws(',',
                                    CASE WHEN record_image_ne(ROW(n.node_type), ROW(o.node_type))
                                         THEN 'node_type' END,
                                    CASE WHEN record_image_ne(ROW(n.node_version), ROW(o.node_version))
                                         THEN 'node_version' END,
                                    CASE WHEN record_image_ne(ROW(n.capabilities), ROW(o.capabilities))
                                         THEN 'capabilities' END,
                                    CASE WHEN record_image_ne(ROW(n.endpoints), ROW(o.endpoints))
                                         THEN 'endpoints' END,
                                    CASE WHEN record_image_ne(ROW(n.metadata), ROW(o.metadata))
                                         THEN 'metadata' END,
                                    CASE WHEN record_image_ne(ROW(n.health_endpoint), ROW(o.health_endpoint))
                                         THEN 'health_endpoint' END,
                                    CASE WHEN record_image_ne(ROW(n.ttl_seconds), ROW(o.ttl_seconds))
                                         THEN 'ttl_seconds' END)
                                END
                              FROM %1$s.node_registrations o WHERE o.node_id::text = n.node_id::text LIMIT 1)
                        END AS changed
                )
                SELECT array_agg(w.node_id), array_agg(w.created), array_agg(w.changed), array_agg(w.last_heartbeat),
                       array_agg(w.registered_at), array_agg(w.maintenance)
                  INTO their_ids, created, changes, heartbeats, births, reasons
                  FROM written w;

                IF odd THEN
                    SELECT array_agg(i.place::int ORDER BY w.place),
                           array_agg(w.created ORDER BY w.place), array_agg(w.changed ORDER BY w.place),
                           array_agg(w.heartbeat ORDER BY w.place), array_agg(w.birth ORDER BY w.place),
                           array_agg(w.reason ORDER BY w.place), array_agg(w.node_id ORDER BY w.place)
                      INTO stored, created, changes, heartbeats, births, reasons, their_ids
                      FROM unnest(their_ids, created, changes, heartbeats, births, reasons)
                               WITH ORDINALITY AS w (node_id, created, changed, heartbeat, birth, reason, place)
                      JOIN unnest(ids) WITH ORDINALITY AS i (node_id, place) ON i.node_id = w.node_id;
                ELSE
                    SELECT array_agg(c.place::int), array_agg(c.changes) INTO stored, changes
                      FROM unnest(differences, chosen) WITH ORDINALITY AS c (changes, chosen, place)
                     WHERE c.chosen;
                END IF;
                -- Somebody else was faster: the row was not there to be locked, nor is it new.
                IF EXISTS (SELECT 1 FROM unnest(stored, created) AS w (item, created)
                            WHERE NOT w.created AND NOT are_locked[w.item]) THEN
                    RAISE EXCEPTION 'another transaction was faster' USING ERRCODE = '40001';
                END IF;
            END IF;

            -- What was offered may not be what is stored: a trigger of the owner may have changed it.
            IF odd THEN
                SELECT array_agg(column_text ORDER BY w.place, c.place) INTO shown
                  FROM unnest(their_ids) WITH ORDINALITY AS w (node_id, place)
                 CROSS JOIN LATERAL (SELECT * FROM %1$s.node_registrations r
                                      WHERE r.node_id::text = w.node_id LIMIT 1) AS n
                 CROSS JOIN LATERAL unnest(ARRAY[n.node_type::text, n.node_version::text, n.capabilities::text,
                                                 n.endpoints::text, n.metadata::text, n.health_endpoint::text,
                                                 n.ttl_seconds::text,
                                                 CASE WHEN isfinite(n.updated_at)
                                                      THEN (extract(epoch FROM n.updated_at) * 1000000)::bigint::text
                                                      ELSE n.updated_at::text END])
                       WITH ORDINALITY AS c (column_text, place);
            END IF;

            IF '' = ANY (changes) THEN
                SELECT array_agg(COALESCE((SELECT e.revision FROM %1$s.node_events e
                                            WHERE e.node_id::text >= w.node_id AND e.node_id::text <= w.node_id
                                              AND e.kind IN ('registered', 'updated', 'maintenance')
                                              ORDER BY e.node_id DESC, e.revision DESC LIMIT 1), 0) ORDER BY w.place)
                  INTO kept
                  FROM unnest(their_ids, changes) WITH ORDINALITY AS w (node_id, changed, place)
                 WHERE w.changed = '';
                INSERT INTO %1$s.onex_registry_signs (at, replica, alive, renewed)
                SELECT at, replica, COALESCE(array_agg(w.node_id ORDER BY w.place) FILTER (WHERE alive[w.item]), '{}'),
                       array_agg(w.node_id ORDER BY w.place)
                  FROM unnest(their_ids, changes, stored) WITH ORDINALITY AS w (node_id, changed, item, place)
                 WHERE w.changed = '';
            END IF;

            -- Nobody waits for anybody without an event. The numbers come in a statement after the one that took the
            -- lock: they are in the order of commits, and whoever had one before has committed. What was numbered and
            -- rolled back is no event, so the one before is not what the sequence says.
            IF cardinality(their_ids) > COALESCE(cardinality(kept), 0) THEN
                IF cardinality(stored) < items THEN
                    SELECT array_agg(actors[s.item] ORDER BY s.place),
                           array_agg(correlation_ids[s.item] ORDER BY s.place)
                      INTO actors, correlation_ids
                      FROM unnest(stored) WITH ORDINALITY AS s (item, place);
                END IF;
                done := set_config('lock_timeout', '2s', true);
                done := %1$s.onex_registry_lock_revisions()::text;
                recorded_at := clock_timestamp();
                WITH numbered AS (
                    INSERT INTO %1$s.node_events AS e
                           (revision, node_id, kind, changed, actor, correlation_id, occurred_at)
                    SELECT nextval(%3$L::regclass), w.node_id,
                           CASE WHEN w.created THEN 'registered' ELSE 'updated' END,
                           CASE WHEN w.created THEN '{}' ELSE string_to_array(w.changed, ',') END,
                           w.actor, w.correlation_id, recorded_at
                      FROM unnest(their_ids, created, changes, actors, correlation_ids)
                               AS w (node_id, created, changed, actor, correlation_id)
                     WHERE w.created OR w.changed <> ''
                    RETURNING e.revision
                )
                SELECT n.revisions, GREATEST(newest.revision, s.pruned_through, 0), s.served_until, s.outage_began,
                       s.outage_ended
                  INTO numbers, previous, served_until, outage_began, outage_ended
                  FROM (SELECT array_agg(revision) AS revisions FROM numbered) AS n
                 -- What this statement inserts, it does not see.
                 CROSS JOIN (SELECT (SELECT e.revision FROM %1$s.node_events e ORDER BY e.revision DESC LIMIT 1)
                            ) AS newest (revision)
                  LEFT JOIN (SELECT * FROM %1$s.onex_registry_state LIMIT 1) AS s ON TRUE;
            ELSE
                SELECT s.served_until, s.outage_began, s.outage_ended INTO served_until, outage_began, outage_ended
                  FROM %1$s.onex_registry_state s LIMIT 1;
            END IF;
        END
        $function$
    $create$, home, home || '.node_registrations', home || '.node_events_revision_seq');
END
$migration$;

-- A short condition: it is read and prepared anew for each statement that writes a row. The function sees what has
-- changed.
DROP TRIGGER IF EXISTS onex_registry_record_update ON node_registrations;
CREATE CONSTRAINT TRIGGER onex_registry_record_update
    AFTER UPDATE ON node_registrations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (current_setting('onex_registry.writer', true) IS DISTINCT FROM 'registry')
    EXECUTE FUNCTION onex_registry_record_row();
