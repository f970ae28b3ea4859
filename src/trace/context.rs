//! W3C Trace Context: reads the caller's trace and writes the headers of an attempt. Pure. <https://www.w3.org/TR/trace-context/>

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SAMPLED: u8 = 1;
/// The flags "sampled" and "the trace id is random". The standard forbids passing on other flags.
const KNOWN_FLAGS: u8 = 3;

/// The longest `tracestate` that a span exports. The standard requires no more. The apiserver gets
/// a longer one too.
const MAX_STATE: usize = 512;

/// A trace, and the place of a create in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    /// Never zero.
    pub(super) trace_id: u128,
    /// The caller's span; zero if the trace begins here.
    pub(super) parent: u64,
    flags: u8,
    /// `tracestate`; empty if there is none or it is too long.
    pub(super) state: String,
}

impl Context {
    /// A sampled trace that begins here.
    pub(super) fn root(trace_id: u128) -> Self {
        Self {
            trace_id,
            parent: 0,
            flags: SAMPLED,
            state: String::new(),
        }
    }

    /// The caller's trace. None: there is no valid header. The standard says to ignore an invalid
    /// one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else {
            return None;
        };
        let (trace_id, parent, flags) = parse(parent.to_str().ok()?)?;
        let states = headers
            .get_all(TRACESTATE)
            .iter()
            .map(|value| value.to_str().unwrap_or_default());
        let state = Some(states.collect::<Vec<_>>().join(","))
            .filter(|state| state.len() <= MAX_STATE)
            .unwrap_or_default();
        Some(Self {
            trace_id,
            parent,
            flags,
            state,
        })
    }

    pub(super) fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Makes the span `id` the parent in the headers of an attempt.
    pub(super) fn set_parent(&self, id: u64, headers: &mut HeaderMap) {
        let text = format!(
            "00-{:032x}-{id:016x}-{:02x}",
            self.trace_id,
            self.flags & KNOWN_FLAGS
        );
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
        // The caller's state belongs to the caller's trace, which was not valid.
        if self.parent == 0 {
            headers.remove(TRACESTATE);
        }
    }
}

/// Parses `00-TRACE_ID-PARENT_ID-FLAGS`. A later version may append fields.
fn parse(text: &str) -> Option<(u128, u64, u8)> {
    let (known, rest) = text.split_at_checked(55)?;
    let mut fields = known.split('-');
    let mut hex = |digits: usize| {
        let is_hex = |field: &&str| {
            field.len() == digits
                && field
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        u128::from_str_radix(fields.next().filter(is_hex)?, 16).ok()
    };
    let (version, trace_id, parent, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let ends = rest.is_empty() || version > 0 && rest.starts_with('-');
    let valid = version != 0xff && ends && trace_id != 0 && parent != 0;
    valid.then_some((
        trace_id,
        u64::try_from(parent).ok()?,
        u8::try_from(flags).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use crate::rows::every;
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(of: &[(HeaderName, &str)]) -> HeaderMap {
        of.iter()
            .map(|(name, value)| (name.clone(), HeaderValue::try_from(*value).unwrap()))
            .collect()
    }

    #[test]
    fn reads_valid_trace_headers() {
        let parsed = (
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            0x00f0_67aa_0ba9_02b7,
            1,
        );
        assert_eq!(parse(PARENT), Some(parsed));
        assert_eq!(
            parse(&PARENT.replacen("00", "cc", 1)),
            Some(parsed),
            "a later version"
        );
        assert_eq!(
            parse(&format!("{}-more", PARENT.replacen("00", "cc", 1))),
            Some(parsed),
            "with more fields"
        );
    }

    #[test]
    fn ignores_invalid_trace_headers() {
        let bad = [
            String::new(),
            PARENT[..54].to_owned(),
            format!("{PARENT}-more"),
            format!("{}more", PARENT.replacen("00", "cc", 1)),
            PARENT.replacen("00", "ff", 1),
            PARENT.to_uppercase(),
            PARENT.replace(
                "4bf92f3577b34da6a3ce929d0e0e4736",
                "00000000000000000000000000000000",
            ),
            PARENT.replace("00f067aa0ba902b7", "0000000000000000"),
            PARENT.replace("4bf9", "+bf9"),
            PARENT.replace('-', "_"),
        ];
        every(bad, |text| {
            assert_eq!(parse(&text), None, "{text}");
        });
        assert_eq!(
            Context::of(&headers(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)])),
            None,
            "twice"
        );
    }

    #[test]
    fn continues_the_callers_trace() {
        let mut headers = headers(&[
            (TRACEPARENT, &PARENT.replace("-01", "-ff")),
            (TRACESTATE, "a=1"),
            (TRACESTATE, "b=2"),
        ]);
        let context = Context::of(&headers).unwrap();
        assert!(context.is_sampled());
        assert_eq!(
            (context.parent, &*context.state),
            (0x00f0_67aa_0ba9_02b7, "a=1,b=2")
        );
        context.set_parent(0xabc, &mut headers);
        assert_eq!(
            headers[TRACEPARENT],
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000abc-03"
        );
        assert_eq!(headers.get_all(TRACESTATE).iter().count(), 2);
    }

    #[test]
    fn a_new_trace_does_not_keep_the_state_of_another() {
        let mut headers = headers(&[(TRACEPARENT, "nonsense"), (TRACESTATE, "a=1")]);
        Context::root(7).set_parent(9, &mut headers);
        assert_eq!(
            headers[TRACEPARENT],
            "00-00000000000000000000000000000007-0000000000000009-01"
        );
        assert_eq!(headers.get(TRACESTATE), None);
    }

    proptest! {
        #[test]
        fn parsing_any_text_never_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
