//! Who may come in, and how many: TLS and limits.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use super::{Wrong, read};

/// The settings of the door, as they were given.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RawDoor {
    /// Certificate chain of the server, a PEM file; with it and its key, connections are encrypted
    #[arg(long, env = "ONEX_REGISTRY_TLS_CERT", value_name = "FILE", default_value = "")]
    tls_cert: String,
    /// Private key of that certificate, a PEM file
    #[arg(long, env = "ONEX_REGISTRY_TLS_KEY", value_name = "FILE", default_value = "")]
    tls_key: String,
    /// Authorities that vouch for clients, a PEM file; empty: clients are not asked for certificates
    #[arg(long, env = "ONEX_REGISTRY_TLS_CLIENT_CA", value_name = "FILE", default_value = "")]
    tls_client_ca: String,
    /// Whether a client must have a certificate of these authorities: optional or required
    #[arg(
        long,
        env = "ONEX_REGISTRY_TLS_CLIENT_AUTH",
        value_name = "OPTIONAL|REQUIRED",
        default_value = "optional"
    )]
    tls_client_auth: String,
    /// How many connections there may be; further ones are turned away
    #[arg(long, env = "ONEX_REGISTRY_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "10000")]
    max_connections: String,
    /// How many connections there may be from one address: a number, or off
    #[arg(
        long,
        env = "ONEX_REGISTRY_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "NUMBER",
        default_value = "off"
    )]
    max_connections_per_address: String,
    /// How many watches and long polls there may be; further ones are told to come again
    #[arg(long, env = "ONEX_REGISTRY_MAX_WATCHERS", value_name = "NUMBER", default_value = "10000")]
    max_watchers: String,
    /// How many requests a client may send per second: a number, or off
    #[arg(long, env = "ONEX_REGISTRY_RATE_LIMIT", value_name = "NUMBER", default_value = "off")]
    rate_limit: String,
    /// How many requests a client may send at once, under that limit; empty: those of one second
    #[arg(long, env = "ONEX_REGISTRY_RATE_BURST", value_name = "NUMBER", default_value = "")]
    rate_burst: String,
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// A PEM file: the server's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// A PEM file: its private key.
    pub key: PathBuf,
    /// Who vouches for clients; `None`: they are not asked.
    pub client_auth: Option<ClientAuth>,
}

/// Certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// A PEM file: the authorities that vouch for clients.
    pub authorities: PathBuf,
    /// Whether a client without a certificate is turned away.
    pub required: bool,
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub most: usize,
    /// From one address; `None`: as many as in all. An IPv6 address stands for its network of 64 bits.
    pub per_address: Option<usize>,
}

/// How many requests a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// In a second, in the long run.
    pub per_second: NonZeroU32,
    /// At once, after a pause.
    pub burst: NonZeroU32,
}

impl RawDoor {
    pub(super) fn tls(&self, wrong: &mut Wrong) -> Option<TlsSettings> {
        let Self { tls_cert: cert, tls_key: key, tls_client_ca: authorities, .. } = self;
        let required = match self.tls_client_auth.as_str() {
            "optional" => Ok(false),
            "required" if authorities.is_empty() => {
                Err("'required' needs ONEX_REGISTRY_TLS_CLIENT_CA, the authorities that vouch for clients"
                    .to_owned())
            }
            "required" => Ok(true),
            other => Err(format!("'{other}' is neither 'optional' nor 'required'")),
        };
        let required = wrong.or("ONEX_REGISTRY_TLS_CLIENT_AUTH", required, false);
        if cert.is_empty() != key.is_empty() {
            let (missing, given) = if cert.is_empty() { ("CERT", "KEY") } else { ("KEY", "CERT") };
            let reason = format!("is missing: ONEX_REGISTRY_TLS_{given} is set, and it takes both");
            wrong.or(&format!("ONEX_REGISTRY_TLS_{missing}"), Err(reason), ());
        }
        if cert.is_empty() && key.is_empty() && !authorities.is_empty() {
            let reason = "needs ONEX_REGISTRY_TLS_CERT and ONEX_REGISTRY_TLS_KEY".to_owned();
            wrong.or("ONEX_REGISTRY_TLS_CLIENT_CA", Err(reason), ());
        }
        let client_auth =
            (!authorities.is_empty()).then(|| ClientAuth { authorities: authorities.into(), required });
        (!cert.is_empty() && !key.is_empty()).then(|| TlsSettings {
            certificate: cert.into(),
            key: key.into(),
            client_auth,
        })
    }

    pub(super) fn connections(&self, wrong: &mut Wrong) -> ConnectionLimits {
        let most = read::number(&self.max_connections, 1..=MOST_CONNECTIONS);
        let per_address = read::number_or_off(&self.max_connections_per_address, 1..=MOST_CONNECTIONS);
        ConnectionLimits {
            most: wrong.or("ONEX_REGISTRY_MAX_CONNECTIONS", most, 1),
            per_address: wrong.or("ONEX_REGISTRY_MAX_CONNECTIONS_PER_ADDRESS", per_address, None),
        }
    }

    pub(super) fn max_watchers(&self, wrong: &mut Wrong) -> usize {
        let most = read::number(&self.max_watchers, 1..=MOST_CONNECTIONS);
        wrong.or("ONEX_REGISTRY_MAX_WATCHERS", most, 1)
    }

    pub(super) fn rate_limit(&self, wrong: &mut Wrong) -> Option<RateLimit> {
        let rates = NonZeroU32::MIN..=MOST_REQUESTS;
        let per_second = read::number_or_off(&self.rate_limit, rates.clone());
        let per_second = wrong.or("ONEX_REGISTRY_RATE_LIMIT", per_second, None);
        let burst = match self.rate_burst.as_str() {
            "" => Ok(None),
            _ if self.rate_limit == "off" => Err("needs ONEX_REGISTRY_RATE_LIMIT".to_owned()),
            text => read::number(text, rates).map(Some),
        };
        let burst = wrong.or("ONEX_REGISTRY_RATE_BURST", burst, None);
        per_second.map(|per_second| RateLimit { per_second, burst: burst.unwrap_or(per_second) })
    }
}

/// More than any machine has room for.
const MOST_CONNECTIONS: usize = 10_000_000;

/// More than any client can send in a second.
const MOST_REQUESTS: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::check;

    /// The variables that are wrong.
    fn wrong(arguments: &[&str]) -> Vec<String> {
        let lines = check(arguments).unwrap_err();
        lines.iter().map(|line| line.split(':').next().unwrap().replace("ONEX_REGISTRY_", "")).collect()
    }

    #[test]
    fn tls_takes_certificate_and_key_and_perhaps_authorities() {
        assert_eq!(check(&[]).unwrap().tls, None);
        let both = ["--tls-cert=c.pem", "--tls-key=k.pem"];
        let tls = check(&both).unwrap().tls.unwrap();
        assert_eq!((tls.certificate, tls.key, tls.client_auth), ("c.pem".into(), "k.pem".into(), None));
        let auth = |more: &[&str]| check(&[&both, more].concat()).unwrap().tls.unwrap().client_auth.unwrap();
        assert!(!auth(&["--tls-client-ca=a.pem"]).required, "optional unless said");
        assert!(auth(&["--tls-client-ca=a.pem", "--tls-client-auth=required"]).required);

        assert_eq!(wrong(&["--tls-cert=c.pem"]), ["TLS_KEY"]);
        assert_eq!(wrong(&["--tls-key=k.pem"]), ["TLS_CERT"]);
        assert_eq!(wrong(&["--tls-client-ca=a.pem"]), ["TLS_CLIENT_CA"]);
        assert_eq!(wrong(&["--tls-client-auth=required"]), ["TLS_CLIENT_AUTH"]);
        assert_eq!(wrong(&[&both, &["--tls-client-auth=always"][..]].concat()), ["TLS_CLIENT_AUTH"]);
    }

    #[test]
    fn limits_are_numbers_or_off() {
        let settings = check(&[]).unwrap();
        assert_eq!(settings.connections, ConnectionLimits { most: 10_000, per_address: None });
        assert_eq!((settings.rate_limit, settings.max_watchers), (None, 10_000));
        let set = ["--max-connections=5", "--max-connections-per-address=2", "--rate-limit=10"];
        let settings = check(&set).unwrap();
        assert_eq!(settings.connections, ConnectionLimits { most: 5, per_address: Some(2) });
        let ten = NonZeroU32::new(10).unwrap();
        assert_eq!(settings.rate_limit, Some(RateLimit { per_second: ten, burst: ten }));
        let settings = check(&["--rate-limit=10", "--rate-burst=1"]).unwrap();
        assert_eq!(settings.rate_limit, Some(RateLimit { per_second: ten, burst: NonZeroU32::MIN }));

        assert_eq!(
            wrong(&[
                "--max-connections=0",
                "--max-connections-per-address=0",
                "--max-watchers=0",
                "--rate-limit=0"
            ]),
            ["MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS", "MAX_WATCHERS", "RATE_LIMIT"]
        );
        assert_eq!(wrong(&["--rate-burst=5"]), ["RATE_BURST"]);
        assert_eq!(wrong(&["--rate-limit=x", "--rate-burst=0"]), ["RATE_LIMIT", "RATE_BURST"]);
    }
}
