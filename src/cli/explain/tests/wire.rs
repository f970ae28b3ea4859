//! Captures as they are on the wire, and as tools print them.

use super::*;
use crate::rows::every;

fn body() -> Vec<u8> {
    let raw = sample("quota_conflict_409");
    let head = raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    raw[head + 4..].to_vec()
}

/// `body` in chunks of `size` bytes, with this line end.
fn chunks(body: &[u8], size: usize, end: &str, trailers: &str) -> String {
    let mut out = String::new();
    for chunk in body.chunks(size) {
        let text = String::from_utf8(chunk.to_vec()).unwrap();
        out += &format!("{:X};a=\"b\"{end}{text}{end}", chunk.len());
    }
    out + &format!("0{end}{trailers}{end}")
}

fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

const CHUNKED: &str = "HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n";

fn is_whole_conflict(raw: &[u8]) -> Explanation {
    let explanation = explained(raw).unwrap();
    assert_eq!(explanation.answer.class, Class::QuotaConflict);
    assert_eq!(explanation.broken_off, None);
    explanation
}

#[test]
fn chunks_are_joined() {
    let body = body();
    let text = String::from_utf8(body.clone()).unwrap();
    every(
        [
            (1, "\r\n", ""),
            (7, "\r\n", "X-Checksum: 1\r\n"),
            (100, "\n", ""),
            (4096, "\r\n", ""),
            (4096, "\n", "a: b\nc: d\n"),
        ],
        |(size, end, trailers)| {
            let chunks = chunks(&body, size, end, trailers);
            assert_ne!(
                is_whole_conflict(format!("{CHUNKED}{chunks}").as_bytes()).verdict,
                Verdict::Relay
            );
            is_whole_conflict(chunks.as_bytes());
        },
    );
    // curl prints the header, and the body without its chunks.
    is_whole_conflict(format!("{CHUNKED}{text}").as_bytes());
    let paste = include_bytes!(
        "../../../../tests/samples/practice/explain-what-people-paste/chunked-from-the-wire.http"
    );
    assert!(
        is_whole_conflict(paste)
            .to_string()
            .contains("verdict   replay\n")
    );
}

#[test]
fn a_capture_that_breaks_off_says_where() {
    let body = body();
    let (half, length) = (body.len() / 2, body.len());
    let whole = chunks(&body, 100, "\r\n", "");
    let table = [
        (
            format!("{CHUNKED}{}", &whole[..160]),
            "within chunk 2, after ".to_owned(),
        ),
        (
            format!("{CHUNKED}{}", &whole[..112]),
            "before the size of chunk 2".to_owned(),
        ),
        (
            format!("{CHUNKED}{}", &whole[..111]),
            "after chunk 1".to_owned(),
        ),
        (
            format!("{CHUNKED}{}", &whole[..110]),
            "after chunk 1".to_owned(),
        ),
        (
            format!("{CHUNKED}{}", whole.trim_end_matches("0\r\n\r\n")),
            format!("before the size of chunk {}", length.div_ceil(100) + 1),
        ),
        (
            format!(
                "HTTP/1.1 409 Conflict\r\nContent-Length: {length}\r\n\r\n{}",
                String::from_utf8_lossy(&body[..half])
            ),
            format!("after {half} of the {length} bytes of the body"),
        ),
    ];
    every(table, |(raw, expected)| {
        let text = explained(&raw).unwrap().to_string();
        assert!(
            text.contains(&format!("note      the capture breaks off {expected}")),
            "{text}"
        );
    });
}

/// The proxy does not read compressed answers, so the verdict is to relay them.
#[test]
fn a_compressed_answer_is_read_but_relayed() {
    let head = "HTTP/1.1 409 Conflict\r\nContent-Encoding: gzip\r\n\r\n";
    let compressed = gzip(&body());
    let explanation = is_whole_conflict(&[head.as_bytes(), &compressed].concat());
    assert_eq!(
        (explanation.verdict, explanation.compressed),
        (Verdict::Relay, true)
    );
    assert!(
        explanation
            .to_string()
            .contains("note      the body is compressed")
    );
    // `curl --compressed` prints the header, and the body as it was before.
    let text = [head.as_bytes(), &body()].concat();
    assert!(!is_whole_conflict(&text).compressed);
    // A compressed file is no compressed answer.
    assert_ne!(
        is_whole_conflict(&gzip(&sample("quota_conflict_409"))).verdict,
        Verdict::Relay
    );
    let cut = [head.as_bytes(), &compressed[..compressed.len() - 20]].concat();
    assert_eq!(
        explained(&cut).unwrap().broken_off.unwrap(),
        "within the gzip data of the body"
    );
    let practice = include_bytes!("../../../../tests/samples/practice/gzip/conflict.http");
    assert_eq!(is_whole_conflict(practice).verdict, Verdict::Relay);
    every(
        [
            (
                &b"HTTP/1.1 409 C\r\nContent-Encoding: br\r\n\r\n\x1b\xff\xfe"[..],
                "compressed (br)",
            ),
            (
                b"\x1f\x8bno gzip at all",
                "gzip data of the capture cannot be read",
            ),
        ],
        |(raw, says)| {
            let error = explained(raw).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        },
    );
}

#[test]
fn reads_what_tools_print_of_an_answer() {
    let body = String::from_utf8(body()).unwrap();
    let verbose = format!(
        "*   Trying 10.0.0.1:6443...\n* ALPN: server accepted h2\n> POST /api/v1/namespaces/a/pods HTTP/2\n> Host: a\n>\n}} [100 bytes data]\n\
         < HTTP/2 100\n<\n< HTTP/2 409 \n< audit-id: a\n< content-type: application/json\n< \n{{ [330 bytes data]\n{body}\n* Connection #0 to host a left intact\n"
    );
    let carriage = verbose.replace('\n', "\r\n");
    let utf16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain(
            format!("HTTP/1.1 409 Conflict\r\n\r\n{body}")
                .encode_utf16()
                .flat_map(u16::to_le_bytes),
        )
        .collect();
    every(
        [
            verbose.into_bytes(),
            carriage.into_bytes(),
            format!(":status: 409\naudit-id: a\n\n{body}").into_bytes(),
            format!(":status 409\r\naudit-id: a\r\n\r\n{body}").into_bytes(),
            format!("\u{feff}HTTP/1.1 409 Conflict\n\n{body}").into_bytes(),
            format!("\u{feff}{body}").into_bytes(),
            utf16,
        ],
        |raw| {
            let explanation = is_whole_conflict(&raw);
            assert_eq!(explanation.code, StatusCode::CONFLICT);
        },
    );
    let error = explained(":status: x\n\n").unwrap_err().to_string();
    assert!(
        error.contains("line 1: \":status: x\" is not a status line"),
        "{error}"
    );
}
