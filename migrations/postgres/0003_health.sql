-- What the replicas agree on about the life of nodes. The registrations themselves stay as they are.

-- One row. served_until: some replica reached the database then, so heartbeats could be taken; the outage is the last
-- time in which none could. pruned_through: events up to this revision may have been deleted.
CREATE TABLE IF NOT EXISTS onex_registry_state (
    id BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (id),
    served_until TIMESTAMP WITH TIME ZONE,
    outage_began TIMESTAMP WITH TIME ZONE,
    outage_ended TIMESTAMP WITH TIME ZONE,
    pruned_through BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO onex_registry_state DEFAULT VALUES ON CONFLICT DO NOTHING;

-- Who does what one replica does for all, until when unless he renews it, and what his successor and the other replicas
-- have to know: since when expiry pauses, since when things have been calm again, and the numbers of the last look at
-- the fleet. A row, and no session lock: that would not survive a pooler.
CREATE TABLE IF NOT EXISTS onex_registry_leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL DEFAULT '',
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity',
    preserving_since TIMESTAMP WITH TIME ZONE,
    calm_since TIMESTAMP WITH TIME ZONE,
    taking_part BIGINT NOT NULL DEFAULT 0,
    healthy BIGINT NOT NULL DEFAULT 0,
    were_healthy BIGINT NOT NULL DEFAULT 0,
    turned_stale BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO onex_registry_leases (name) VALUES ('health') ON CONFLICT DO NOTHING;

-- What the events have last said of a node's life, and since when it has been so. Status itself is derived from the
-- last heartbeat and never stored. registered_at tells one life of an id from the next.
CREATE TABLE IF NOT EXISTS onex_registry_node_health (
    node_id VARCHAR(255) PRIMARY KEY,
    registered_at TIMESTAMP WITH TIME ZONE NOT NULL,
    status TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL
);
