//! Compression: with gzip, for who takes it, of answers that are worth it.

use axum::body::HttpBody;
use axum::http::{HeaderMap, HeaderValue, Response, header};
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{Compression, CompressionLayer};

/// Answers smaller than this are not worth compressing.
const COMPRESS_FROM_BYTES: u64 = 1_024;

/// Compresses the answers of a service.
pub(super) fn compressed<S>(service: S) -> Compression<S, WorthIt> {
    tower::Layer::layer(&CompressionLayer::new().gzip(true).compress_when(WorthIt), service)
}

/// What to compress: large answers that don't carry a strong entity tag. Such a tag names the bytes of one
/// representation, and the compressed one would be another (RFC 9110, section 8.8.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct WorthIt;

impl Predicate for WorthIt {
    fn should_compress<B: HttpBody>(&self, response: &Response<B>) -> bool {
        let strong = |tag: &HeaderValue| !tag.as_bytes().starts_with(b"W/");
        !response.headers().get(header::ETAG).is_some_and(strong)
            && SizeAbove::new(COMPRESS_FROM_BYTES).should_compress(response)
            && NotForContentType::SSE.should_compress(response)
            && NotForContentType::IMAGES.should_compress(response)
    }
}

/// Says of an answer that it would have been another one for who takes gzip.
pub(super) fn vary<B: HttpBody>(response: &mut Response<B>) {
    if WorthIt.should_compress(response) {
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Whether a client takes gzip. If so, that is all that is left of what it said: everything else may be answered as it is
/// (RFC 9110, section 12.5.3), and never with a 406 for what has been done already.
pub(super) fn accepts_gzip(headers: &mut HeaderMap) -> bool {
    let accepts = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|list| list.split(',').any(|coding| is_acceptable_gzip(&coding.to_ascii_lowercase())))
    };
    let gzip = headers.get_all(header::ACCEPT_ENCODING).iter().any(accepts);
    if gzip {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    gzip
}

fn is_acceptable_gzip(coding: &str) -> bool {
    let mut parts = coding.split(';').map(str::trim);
    let named = matches!(parts.next(), Some("gzip" | "x-gzip" | "*"));
    let refused = parts
        .any(|weight| weight.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0)));
    named && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_all_that_matters_of_accept_encoding() {
        for (given, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, identity", false),
            ("identity;q=0", false),
            ("*;q=0", false),
            ("br", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(given));
            assert_eq!(accepts_gzip(&mut headers), expected, "{given}");
            let left = headers.get(header::ACCEPT_ENCODING).map(|value| value.to_str().unwrap());
            assert!(!expected || left == Some("gzip"), "{given}");
        }
    }
}
