//! What browsers may do with our pages, and with everything else.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Pages load what this server has, and nothing from elsewhere; nobody frames them. No page has a script or a style sheet
/// written into it, so nothing of the kind is allowed. Swagger UI gives some of its elements a `style` of their own: that is
/// refused with the rest, the browser's console says so, and it works without. Its images are partly written into its
/// style sheets.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Every answer has this: what is no script is never taken for one.
pub(super) const NOSNIFF: (HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// Adds what browsers are told about a page.
pub(super) fn protect(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    // For browsers that don't know frame-ancestors.
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // What belongs to a version of the program is asked for again after an update.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
}
