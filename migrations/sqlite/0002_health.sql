-- What a server has to know of the life of nodes when it starts again. Times are microseconds since
-- 1970-01-01T00:00:00Z.

-- One row. served_until: the server was there then, so heartbeats could be taken; the outage is the last time in which
-- none could. preserving_since, calm_since: since when expiry pauses, and since when things have been calm again; then
-- the numbers of the last look at the fleet.
-- pruned_through: events up to this revision may have been deleted.
CREATE TABLE onex_registry_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    served_until INTEGER,
    outage_began INTEGER,
    outage_ended INTEGER,
    preserving_since INTEGER,
    calm_since INTEGER,
    taking_part INTEGER NOT NULL DEFAULT 0,
    healthy INTEGER NOT NULL DEFAULT 0,
    were_healthy INTEGER NOT NULL DEFAULT 0,
    turned_stale INTEGER NOT NULL DEFAULT 0,
    pruned_through INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO onex_registry_state (id) VALUES (1);

-- What the events have last said of a node's life, and since when it has been so. Status itself is derived from the
-- last heartbeat and never stored. registered_at tells one life of an id from the next.
CREATE TABLE onex_registry_node_health (
    node_id TEXT NOT NULL PRIMARY KEY,
    registered_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;
