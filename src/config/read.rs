//! Reading the text of single settings.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::{CorsOrigins, DatabaseUrl, LogFormat, Public};
use crate::secret::Secret;
use crate::store::postgres::PostgresStore;

pub(super) fn database(url: &str) -> Result<DatabaseUrl, String> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "sqlite" => Ok(DatabaseUrl::Sqlite(url.to_owned())),
        // The reason is not repeated: it may have parts of the URL in it, and with them a password.
        "postgres" | "postgresql" if PostgresStore::is_url(url) => {
            if has_stray_at(url) {
                return Err("has an @ after the host: percent-encode what is special in the user name and the password".to_owned());
            }
            Ok(DatabaseUrl::Postgres(Secret::from(url.to_owned())))
        }
        "postgres" | "postgresql" => {
            Err("is not a URL such as postgres://user:password@host:5432/database".to_owned())
        }
        _ => Err("must begin with postgres:// or sqlite://".to_owned()),
    }
}

/// A password with a `/`, `?` or `#` in it that is not percent-encoded ends the authority early. What follows would be
/// taken for a database, and be shown as one.
fn has_stray_at(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    let end = after_scheme.find(['/', '?', '#']).unwrap_or(after_scheme.len());
    let (authority, rest) = after_scheme.split_at(end);
    !authority.contains('@') && rest.contains('@')
}

pub(super) fn api_keys_file(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

pub(super) fn public(text: &str) -> Result<Public, String> {
    let mut public = Public::default();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name {
            "metrics" => public.metrics = true,
            "docs" => public.docs = true,
            "read" => public.read = true,
            _ => return Err(format!("'{name}' is not one of metrics, docs, read")),
        }
    }
    Ok(public)
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not an address and port such as 127.0.0.1:8080 or [::1]:8080"))
}

pub(super) fn number<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
{
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("'{text}' is not a number from {} to {}", range.start(), range.end())),
    }
}

pub(super) fn number_or_off<T>(text: &str, range: RangeInclusive<T>) -> Result<Option<T>, String>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
{
    if text == "off" {
        return Ok(None);
    }
    number(text, range).map(Some).map_err(|reason| format!("{reason}, nor 'off'"))
}

pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    text.split(',').map(str::trim).filter(|network| !network.is_empty()).map(network).collect()
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("'{text}' is not a network such as 10.0.0.0/8 or fd00::/8"))
}

pub(super) fn percent(text: &str) -> Result<u8, String> {
    match text.trim_end_matches('%').parse() {
        Ok(number) if number <= 100 => Ok(number),
        _ => Err(format!("'{text}' is not a number from 0 to 100")),
    }
}

pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("'{text}' is neither 'on' nor 'off'")),
    }
}

/// A file that can be made: its folder is there.
pub(super) fn file(text: &str) -> Result<Option<PathBuf>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(text);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match path.file_name() {
        Some(_) if folder.is_dir() && !path.is_dir() => Ok(Some(path)),
        _ => Err(format!("'{text}' is not the name of a file in a folder that is there")),
    }
}

pub(super) fn cors(text: &str) -> Result<CorsOrigins, String> {
    match text.trim() {
        "" => Ok(CorsOrigins::None),
        "*" => Ok(CorsOrigins::Any),
        list => list
            .split(',')
            .map(|origin| cors_origin(origin.trim()))
            .collect::<Result<_, _>>()
            .map(CorsOrigins::Some),
    }
}

/// An origin is scheme, host and port (RFC 6454, section 6.2). Browsers compare it as text.
pub(super) fn cors_origin(text: &str) -> Result<axum::http::HeaderValue, String> {
    let is_origin = url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
    match axum::http::HeaderValue::from_str(text) {
        Ok(value) if is_origin => Ok(value),
        _ => Err(format!("'{text}' is not an origin such as https://console.example.org")),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("'{text}' is not one of pretty, json, auto")),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|reason| {
        format!("'{text}' is not a level such as info, nor a list such as info,sqlx=debug ({reason})")
    })
}
