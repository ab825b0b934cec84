-- What the replicas tell each other of heartbeats, and of registrations that changed nothing: they are no events, and a
-- replica that keeps the fleet in memory must know of those that another one took.

-- A row per batch, in the transaction of the batch: its instant, who took it, who gave a sign of life and who has
-- registered anew. Whoever reads them deletes what is too old to be news to anybody, so the table stays small, and is
-- vacuumed by what comes in and not by what is there. Numbers are not in the order of commits.
CREATE TABLE IF NOT EXISTS onex_registry_signs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    replica TEXT NOT NULL DEFAULT '',
    alive TEXT[] NOT NULL DEFAULT '{}',
    renewed TEXT[] NOT NULL DEFAULT '{}'
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 10000, toast.autovacuum_vacuum_scale_factor = 0,
        toast.autovacuum_vacuum_threshold = 5000);
