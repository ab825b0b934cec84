-- The table of the design, in SQLite's types. Times are microseconds since 1970-01-01T00:00:00Z. JSON is compact, as
-- the registry writes it; a CHECK keeps other hands from leaving anything else.
CREATE TABLE node_registrations (
    node_id TEXT NOT NULL PRIMARY KEY,
    node_type TEXT NOT NULL,
    node_version TEXT NOT NULL DEFAULT '1.0.0',
    capabilities TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(capabilities)),
    endpoints TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(endpoints)),
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    health_endpoint TEXT,
    last_heartbeat INTEGER,
    registered_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    ttl_seconds INTEGER,
    maintenance TEXT
) STRICT;
CREATE INDEX idx_node_registrations_node_type ON node_registrations (node_type, node_id);
CREATE INDEX idx_node_registrations_node_version ON node_registrations (node_version);

-- The log of changes. AUTOINCREMENT: a number that was committed is never used again, not even after a deletion.
-- The revision of a registration is that of its newest event of a kind that changes it; such an event is kept as long
-- as the node is registered.
CREATE TABLE node_events (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    node_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    changed TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(changed)),
    actor TEXT NOT NULL,
    correlation_id TEXT,
    occurred_at INTEGER NOT NULL
) STRICT;
CREATE INDEX idx_node_events_node_id ON node_events (node_id, revision);
CREATE INDEX idx_node_events_registration ON node_events (node_id, revision)
    WHERE kind IN ('registered', 'updated', 'maintenance');
