//! Which server, and how it is asked: read from flags, the environment and `.env`, and checked all at once.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use url::Url;

use crate::secret::Secret;
use crate::small_file;

/// The variable of the key's secret. There is no flag for it: every user of the machine sees the arguments of programs.
const KEY: &str = "ONEX_REGISTRY_API_KEY";
/// The variables that clients have and servers don't.
pub(crate) const VARIABLES: [&str; 5] = [
    "ONEX_REGISTRY_URL",
    KEY,
    "ONEX_REGISTRY_API_KEY_FILE",
    "ONEX_REGISTRY_CA_FILE",
    "ONEX_REGISTRY_TIMEOUT",
];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_KEY_BYTES: u64 = 4096;

/// The settings as they were given.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which server")]
pub struct ClientArgs {
    /// The server: `http://` or `https://`, host and port
    #[arg(
        long,
        env = "ONEX_REGISTRY_URL",
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
    /// A file with the secret of the API key, and nothing else. Or set `ONEX_REGISTRY_API_KEY` to the secret itself
    #[arg(long, env = "ONEX_REGISTRY_API_KEY_FILE", global = true, value_name = "FILE", default_value = "")]
    api_key_file: OsString,
    /// The authorities that vouch for the server, a PEM file; empty: those that this system trusts
    #[arg(long, env = "ONEX_REGISTRY_CA_FILE", global = true, value_name = "FILE", default_value = "")]
    ca_file: OsString,
    /// How long an answer may take
    #[arg(
        long,
        env = "ONEX_REGISTRY_TIMEOUT",
        global = true,
        value_name = "DURATION",
        default_value = "30s"
    )]
    timeout: String,
}

/// The settings, all valid.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Where the server is.
    pub url: BaseUrl,
    /// The secret of the key that each request shows.
    pub key: Option<Secret>,
    /// Who vouches for the server; `None`: those whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// How long it may take to connect.
    pub connect_timeout: Duration,
    /// How long a request may take, with its answer.
    pub timeout: Duration,
}

/// All that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct BadClientSettings(pub(super) Vec<String>);

impl ClientArgs {
    /// Checks all settings. The key is read from its file or variable.
    ///
    /// # Errors
    /// All that is wrong, each with the name of its variable. Nothing of the key is repeated.
    pub fn check(&self) -> Result<ClientSettings, BadClientSettings> {
        let mut wrong = Vec::new();
        let url =
            self.url.parse::<BaseUrl>().map_err(|reason| wrong.push(format!("ONEX_REGISTRY_URL: {reason}")));
        let key = match (some(&self.api_key_file), variable()) {
            (Some(path), Ok(None)) => {
                key_of_file(path).map(Some).map_err(|reason| format!("ONEX_REGISTRY_API_KEY_FILE: {reason}"))
            }
            (Some(_), _) => {
                Err(format!("{KEY}: there is an ONEX_REGISTRY_API_KEY_FILE too; which of the two?"))
            }
            (None, Ok(text)) => {
                text.as_deref().map(key).transpose().map_err(|reason| format!("{KEY}: {reason}"))
            }
            (None, Err(reason)) => Err(format!("{KEY}: {reason}")),
        };
        let key = key.map_err(|line| wrong.push(line));
        let timeout = match humantime::parse_duration(&self.timeout) {
            Ok(timeout) if !timeout.is_zero() && timeout <= LONGEST => Ok(timeout),
            _ => Err(format!(
                "ONEX_REGISTRY_TIMEOUT: '{}' is not a duration such as 500ms or 30s, of a day at the most",
                self.timeout
            )),
        };
        let timeout = timeout.map_err(|line| wrong.push(line));
        match (url, key, timeout) {
            (Ok(url), Ok(key), Ok(timeout)) => Ok(ClientSettings {
                url,
                key,
                ca_file: some(&self.ca_file).map(Path::to_path_buf),
                connect_timeout: CONNECT_TIMEOUT.min(timeout),
                timeout,
            }),
            _ => Err(BadClientSettings(wrong)),
        }
    }
}

const LONGEST: Duration = Duration::from_hours(24);

fn some(path: &OsStr) -> Option<&Path> {
    (!path.is_empty()).then(|| Path::new(path))
}

fn variable() -> Result<Option<String>, &'static str> {
    match std::env::var(KEY) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(NO_KEY),
    }
}

fn key_of_file(path: &Path) -> Result<Secret, String> {
    let bytes =
        small_file::read(path, MAX_KEY_BYTES).map_err(|reason| format!("'{}' {reason}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("'{}' {NO_KEY}", path.display()))?;
    key(&text).map_err(|reason| format!("'{}' {reason}", path.display()))
}

/// A `b64token` (RFC 6750, section 2.1): what `onex-registry key new` prints is one.
fn key(text: &str) -> Result<Secret, &'static str> {
    let trimmed = text.trim();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if trimmed.is_empty() || !trimmed.bytes().all(is_token) {
        return Err(NO_KEY);
    }
    Ok(Secret::from(trimmed.to_owned()))
}

const NO_KEY: &str = "is not the secret of a key: letters, digits and -._~+/=";

/// Where a server is: scheme, host, port, and what stands before the paths of the API, if a proxy wants that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.starts_with("https:")
    }

    pub(super) fn uri(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.0)
    }
}

impl std::str::FromStr for BaseUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Nothing of it is repeated: there may be a password in it.
        let url = Url::parse(text).map_err(|_| "is not a URL such as https://registry.example:8080")?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("must begin with http:// or https:// and have a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not have a user or password in it; a key goes into ONEX_REGISTRY_API_KEY");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not have a query string or a fragment");
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
