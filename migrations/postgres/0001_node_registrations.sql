CREATE TABLE IF NOT EXISTS node_registrations (
    node_id VARCHAR(255) PRIMARY KEY,
    node_type VARCHAR(50) NOT NULL,
    node_version VARCHAR(50) NOT NULL DEFAULT '1.0.0',
    capabilities JSONB NOT NULL DEFAULT '{}',
    endpoints JSONB NOT NULL DEFAULT '{}',
    metadata JSONB NOT NULL DEFAULT '{}',
    health_endpoint VARCHAR(512),
    last_heartbeat TIMESTAMP WITH TIME ZONE,
    registered_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW()
);
CREATE INDEX IF NOT EXISTS idx_node_registrations_node_type ON node_registrations(node_type);
CREATE INDEX IF NOT EXISTS idx_node_registrations_node_version ON node_registrations(node_version);
CREATE INDEX IF NOT EXISTS idx_node_registrations_updated_at ON node_registrations(updated_at DESC);
CREATE INDEX IF NOT EXISTS idx_node_registrations_health_endpoint ON node_registrations(health_endpoint)
    WHERE health_endpoint IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_node_registrations_capabilities ON node_registrations USING GIN (capabilities);
