//! Who may do what, and whether that has been said at all.

use std::path::PathBuf;

use clap::Args;

use super::{Public, Settings, Wrong, read};

/// The settings of access, as they were given.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RawAccess {
    /// File of the API keys, as `onex-registry key new` prints them; read again when it changes. Empty: there are none
    #[arg(long, env = "ONEX_REGISTRY_API_KEYS_FILE", value_name = "FILE", default_value = "")]
    api_keys_file: String,
    /// Serve everybody who reaches the server, without keys: on or off
    #[arg(
        long,
        env = "ONEX_REGISTRY_INSECURE_NO_AUTH",
        value_name = "ON|OFF",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on",
        default_value = "off"
    )]
    insecure_no_auth: String,
    /// What is open without a key, separated by commas, out of metrics, docs, read
    #[arg(long, env = "ONEX_REGISTRY_PUBLIC", value_name = "WHAT", default_value = "")]
    public: String,
}

impl RawAccess {
    pub(super) fn api_keys_file(&self) -> Option<PathBuf> {
        read::api_keys_file(&self.api_keys_file)
    }

    pub(super) fn insecure_no_auth(&self, wrong: &mut Wrong) -> bool {
        wrong.or("ONEX_REGISTRY_INSECURE_NO_AUTH", read::on_or_off(&self.insecure_no_auth), false)
    }

    pub(super) fn public(&self, wrong: &mut Wrong) -> Public {
        wrong.or("ONEX_REGISTRY_PUBLIC", read::public(&self.public), Public::default())
    }
}

impl Settings {
    /// Why this may not be served: who may do what is not said, or said in two ways.
    pub(super) fn exposure(&self) -> Option<String> {
        if self.api_keys_file.is_some() {
            return self.insecure_no_auth.then(|| {
                "ONEX_REGISTRY_INSECURE_NO_AUTH: is on, and ONEX_REGISTRY_API_KEYS_FILE names keys; set one of them".to_owned()
            });
        }
        (!self.is_local() && !self.insecure_no_auth).then(|| {
            format!(
                "ONEX_REGISTRY_LISTEN: {} is open to the network, and there are no API keys. \
                 Make one: onex-registry key new --name admin --role admin >>keys.toml, \
                 and set ONEX_REGISTRY_API_KEYS_FILE=keys.toml. Or listen on 127.0.0.1. \
                 Or, if everybody who reaches this address may change everything, set \
                 ONEX_REGISTRY_INSECURE_NO_AUTH=on, or give --insecure-no-auth",
                self.listen
            )
        })
    }
}
