//! Where the revision of a node's registration is found: one text for all statements that look it up.

/// The revision of the registration of the row `n`; 0 if no event tells of it.
///
/// It is the last in the index on both columns. With `=` the primary key, too, would be in the order that is asked for,
/// and the log might be gone through backwards to the last change of the node.
macro_rules! revision_sql {
    () => {
        "COALESCE((SELECT e.revision FROM node_events e
                  WHERE e.node_id >= n.node_id AND e.node_id <= n.node_id
                    AND e.kind IN ('registered', 'updated', 'maintenance')
                  ORDER BY e.node_id DESC, e.revision DESC LIMIT 1), 0)"
    };
}

pub(super) use revision_sql;
