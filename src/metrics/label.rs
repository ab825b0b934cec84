//! What labels may say.

/// A label and all its values.
pub(super) trait Label: Copy + 'static {
    const ALL: &'static [Self];

    fn value(self) -> &'static str;
}

macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $value:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$meaning])* $variant,)+
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }
    };
}

label!(
    /// The method of a request. A client may send any token.
    HttpMethod {
        /// GET
        Get = "GET",
        /// HEAD
        Head = "HEAD",
        /// PUT
        Put = "PUT",
        /// POST
        Post = "POST",
        /// DELETE
        Delete = "DELETE",
        /// PATCH
        Patch = "PATCH",
        /// OPTIONS
        Options = "OPTIONS",
        /// TRACE
        Trace = "TRACE",
        /// CONNECT
        Connect = "CONNECT",
        /// Any other token.
        Other = "other",
    }
);

label!(
    /// Whether clients' calls go to the database.
    BreakerPhase {
        /// They go.
        Closed = "closed",
        /// One of them tries whether it is there; others are refused.
        HalfOpen = "half_open",
        /// They are refused.
        Open = "open",
    }
);

impl BreakerPhase {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.value()
    }
}

label!(
    /// Why a request was refused for want of a key, or of rights.
    AuthFailure {
        /// It shows no key.
        Missing = "missing",
        /// It shows something in a way that can't be read.
        Malformed = "malformed",
        /// It shows no key of ours.
        Unknown = "unknown",
        /// It shows a key that has expired.
        Expired = "expired",
        /// The key has not the role.
        Role = "role",
        /// The key does not cover the node, or one of the nodes.
        NotCovered = "not_covered",
    }
);

label!(
    /// What became of a file of API keys that had changed.
    KeysReload {
        /// Its keys are in use.
        Taken = "taken",
        /// It is wrong: those before it stay in use.
        Refused = "refused",
    }
);

label!(
    /// What became of a registration.
    RegistrationOutcome {
        /// The node was not registered before.
        Created = "created",
        /// The node was registered already.
        Renewed = "renewed",
        /// A precondition or a rule of the database's own was against it.
        Refused = "refused",
        /// The database could not do it.
        Failed = "failed",
    }
);

label!(
    /// What became of a deregistration.
    DeregistrationOutcome {
        /// The node is gone.
        Removed = "removed",
        /// It was not registered.
        NotFound = "not_found",
        /// A precondition or a rule of the database's own was against it.
        Refused = "refused",
        /// The database could not do it.
        Failed = "failed",
    }
);

label!(
    /// Where what is to be written waits for its turn.
    WriteLane {
        /// Registrations, deregistrations, maintenance.
        Writes = "writes",
        /// Signs of life.
        Heartbeats = "heartbeats",
        /// What met a row that another transaction holds.
        Held = "held",
    }
);

label!(
    /// Who said that a node is alive.
    HeartbeatSource {
        /// The node, or somebody for it.
        Client = "client",
        /// A health check of ours that it passed.
        Probe = "probe",
    }
);

label!(
    /// How a health check ended.
    ProbeOutcome {
        /// The node answered that it is well.
        Success = "success",
        /// It answered with a status that is no success.
        Status = "status",
        /// It didn't answer in time.
        Timeout = "timeout",
        /// Probes may not go to its address, or its URL is none that is probed.
        Refused = "refused",
        /// The name has no address.
        Resolve = "resolve",
        /// TLS could not be agreed upon.
        Tls = "tls",
        /// Nobody listens there, or it was not reached for another reason.
        Connect = "connect",
    }
);

label!(
    /// A change of status that time brings, and no request.
    StatusChange {
        /// A sign of life came.
        Healthy = "healthy",
        /// None came in time.
        Stale = "stale",
    }
);

label!(
    /// Why the server ended a watch.
    WatchEnd {
        /// The server stops.
        Shutdown = "shutdown",
        /// The client read more slowly than changes came.
        SlowReader = "slow_reader",
        /// What comes next is not known any more.
        Reset = "reset",
        /// The key of the client is not valid any more.
        KeyRevoked = "key_revoked",
    }
);

label!(
    /// Why a connection was turned away.
    Refusal {
        /// There are as many as the server takes.
        Full = "full",
        /// There are as many from its address as the server takes of one.
        Address = "address",
    }
);
