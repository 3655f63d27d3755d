//! Cookies for a domain that the other name is not in.
//!
//! A browser throws such a cookie away (RFC 6265 section 5.3), and whoever came by the other name could not log in. Without
//! its `Domain` a cookie is for the very host that was asked, which every browser takes.

use http::{HeaderMap, HeaderValue, header};

use super::Rewriter;

impl Rewriter {
    /// The cookies of an answer, so that the other name may set them.
    pub(super) fn cookies(&self, headers: &mut HeaderMap) {
        for (name, cookie) in headers {
            if name == header::SET_COOKIE
                && let Some(own) = self.without_foreign_domain(cookie)
            {
                *cookie = own;
            }
        }
    }

    /// `None` if the cookie may stay as it is.
    fn without_foreign_domain(&self, cookie: &HeaderValue) -> Option<HeaderValue> {
        let is_foreign = |attribute: &[u8]| {
            let Some(domain) = domain(attribute) else { return false };
            // One that the site itself could not set is not made one that it can.
            is_in(self.rule.from.host().as_str(), &domain) && !is_in(self.rule.to.host().as_str(), &domain)
        };
        let attributes: Vec<&[u8]> = cookie.as_bytes().split(|byte| *byte == b';').collect();
        let (pair, attributes) = attributes.split_first()?;
        if !attributes.iter().any(|attribute| is_foreign(attribute)) {
            return None;
        }
        let mut own = pair.to_vec();
        for attribute in attributes.iter().filter(|attribute| !is_foreign(attribute)) {
            own.push(b';');
            own.extend_from_slice(attribute);
        }
        HeaderValue::from_bytes(&own).ok()
    }
}

/// The domain that an attribute names, in small letters and without the dot that older servers put before it.
fn domain(attribute: &[u8]) -> Option<String> {
    let (name, value) = std::str::from_utf8(attribute).ok()?.split_once('=')?;
    let value = value.trim();
    name.trim().eq_ignore_ascii_case("domain").then(|| value.strip_prefix('.').unwrap_or(value).to_ascii_lowercase())
}

fn is_in(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
