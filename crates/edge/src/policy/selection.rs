//! `Vary`: what a request said in the fields that an answer depends on (RFC 9111 section 4.1).
//!
//! Taken down when the answer is stored; a later request fits when it says the same. Lists compare member by member,
//! whatever the spaces between them and however many lines they take. `Accept-Encoding` never counts: sources are asked for
//! the identity encoding whatever the reader takes.

use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};

/// The fields an answer depends on, each with what its request said there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection(Box<[(String, Option<String>)]>);

impl Selection {
    /// What `request` said in the fields that `answer` depends on.
    pub fn of(answer: &HeaderMap, request: &HeaderMap) -> Self {
        let mut names: Vec<_> = nominated(answer).collect();
        names.sort();
        names.dedup();
        Self(
            names
                .into_iter()
                .map(|name| {
                    let said = said(request, &name);
                    (name, said)
                })
                .collect(),
        )
    }

    /// Whether the answer is the same for everybody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both depend on the same fields.
    pub fn same_fields(&self, other: &Self) -> bool {
        self.0.iter().map(|(name, _)| name).eq(other.0.iter().map(|(name, _)| name))
    }

    /// Whether an answer that was selected so is the one for `request`.
    pub fn fits(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|(name, before)| said(request, name) == *before)
    }

    /// Where, of `places`, the answer to `request` is kept. Two requests that say the same meet in one place.
    pub fn place(&self, request: &HeaderMap, places: u8) -> u8 {
        // FNV-1a: quick, the same in every process, and a reader who makes two of them meet gains a miss.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for (name, _) in &self.0 {
            let text = said(request, name);
            for byte in name.bytes().chain([0]).chain(text.iter().flat_map(|text| text.bytes())).chain([1]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        u8::try_from(hash % u64::from(places.max(1))).expect("the remainder is less than a u8")
    }
}

/// Whether an answer depends on something that no request shows (`Vary: *`).
pub(super) fn depends_on_anything(answer: &HeaderMap) -> bool {
    nominated(answer).any(|name| name == "*")
}

fn nominated(answer: &HeaderMap) -> impl Iterator<Item = String> {
    let fields = answer.get_all(header::VARY).iter();
    let names = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    let names = names.map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase());
    names.filter(|name| !name.is_empty() && name != header::ACCEPT_ENCODING.as_str())
}

fn said(request: &HeaderMap, name: &str) -> Option<String> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    if !request.contains_key(&name) {
        return None;
    }
    let members = request.get_all(&name).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    // One character a byte, so that nothing that differs becomes equal.
    let members = members.map(|member| member.trim_ascii().iter().copied().map(char::from).collect::<String>());
    Some(members.filter(|member| !member.is_empty()).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn who_gets_which_variant() {
        let answer = fields(&[("vary", "Accept-Encoding, Foo"), ("vary", ",BAR")]);
        let one = Selection::of(&answer, &fields(&[("foo", "1, 2")]));
        assert!(one.fits(&fields(&[("foo", "1,2"), ("accept-encoding", "gzip")])));
        assert!(one.fits(&fields(&[("foo", "1"), ("foo", " 2"), ("baz", "3")])));
        assert!(!one.fits(&fields(&[("foo", "2, 1")])));
        assert!(!one.fits(&fields(&[("foo", "1, 2"), ("bar", "")])));
        assert!(!one.fits(&fields(&[])));
        assert!(Selection::of(&fields(&[("vary", "accept-encoding")]), &fields(&[])).is_empty());
        assert!(depends_on_anything(&fields(&[("vary", "foo, *")])));
        assert!(!depends_on_anything(&answer));
    }

    proptest! {
        #[test]
        fn an_answer_is_for_its_own_request(vary in "[a-c, *]{0,9}", a in "[ -~]{0,9}", b in "[ -~]{0,9}") {
            let answer = fields(&[("vary", &vary)]);
            let request = fields(&[("a", &a), ("b", &b)]);
            let selection = Selection::of(&answer, &request);
            prop_assert!(selection.fits(&request));
            prop_assert_eq!(selection.place(&request, 16), selection.place(&request, 16));
            prop_assert!(selection.place(&request, 16) < 16);
        }
    }
}
