//! Who a client is by its certificate.

use std::sync::Arc;

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The name in a client's certificate that one of our authorities has vouched for. It is in the extensions of every
/// request on such a connection.
///
/// It is the common name of the subject, or the first DNS name of a certificate without one: that is how people name the
/// holder of a certificate, also where tools are used that write only one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertifiedName(Arc<str>);

impl CertifiedName {
    /// The name in a certificate (DER). It must have been verified. `None` if it has none, or one that no text holds.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let common_names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let dns_names = certificate.subject_alternative_name().ok().flatten().into_iter().flat_map(|names| {
            names.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            })
        });
        // What can't be told from another in a log is nobody's name.
        let is_a_name = |name: &&str| !name.is_empty() && !name.contains(char::is_control);
        common_names.chain(dns_names).find(is_a_name).map(|name| Self(name.into()))
    }

    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text: not empty, and without control characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn name(common_name: Option<&str>, dns_names: &[&str]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(name.to_owned()));
        }
        params.subject_alt_names =
            dns_names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        CertifiedName::of(certificate.der()).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn the_common_name_counts_and_then_the_first_dns_name() {
        assert_eq!(name(Some("deployer"), &["a.example"]).as_deref(), Some("deployer"));
        assert_eq!(name(None, &["a.example", "b.example"]).as_deref(), Some("a.example"));
        assert_eq!(name(Some(""), &["a.example"]).as_deref(), Some("a.example"));
        assert_eq!(name(Some("Jürgen"), &[]).as_deref(), Some("Jürgen"));
        assert_eq!(name(Some("two\nlines"), &[]), None);
        assert_eq!(name(None, &[]), None);
        assert_eq!(CertifiedName::of(b"no certificate"), None);
    }
}
