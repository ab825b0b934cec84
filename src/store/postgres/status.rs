//! What PostgreSQL judges the status of a node by: one text for all statements, so that they can't disagree.

/// The status of the row `n` as `crate::node::Life::status` derives it. It takes the numbers of the parameters that
/// have the instant, the server's TTL in microseconds, and the beginning and the end of the last outage.
macro_rules! status_sql {
    ($at:literal, $server_ttl:literal, $outage_began:literal, $outage_ended:literal) => {
        concat!(
            "CASE
            WHEN n.maintenance IS NOT NULL THEN 'maintenance'
            WHEN n.last_heartbeat IS NULL THEN 'unknown'
            WHEN n.last_heartbeat >= ",
            $at,
            "::timestamptz - ",
            ttl_sql!($server_ttl),
            " THEN 'healthy'
            WHEN n.last_heartbeat >= ",
            $outage_began,
            "::timestamptz - ",
            ttl_sql!($server_ttl),
            "
             AND ",
            $outage_ended,
            "::timestamptz >= ",
            $at,
            "::timestamptz - ",
            ttl_sql!($server_ttl),
            " THEN 'healthy'
            ELSE 'stale' END"
        )
    };
}

macro_rules! ttl_sql {
    ($server_ttl:literal) => {
        concat!(
            "make_interval(secs => 0.000001) * GREATEST(0, COALESCE(n.ttl_seconds::float8 * 1000000, ",
            $server_ttl,
            "::bigint::float8))"
        )
    };
}

pub(super) use {status_sql, ttl_sql};
