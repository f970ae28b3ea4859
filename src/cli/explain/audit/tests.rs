use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::*;
use crate::config::Mode;
use crate::rows::every;

fn sample() -> String {
    let path = "tests/samples/audit/metadata.jsonl";
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn printed(files: &[&NamedTempFile], output: Output, top: Option<usize>) -> String {
    let args = AuditArgs {
        audit_log: files.iter().map(|file| file.path().to_owned()).collect(),
        top,
        output,
    };
    let mut out = Vec::new();
    let result = run(&args, &Config::default(), &mut out);
    result.unwrap_or_else(|error| panic!("{error}")).unwrap();
    String::from_utf8(out).unwrap()
}

fn json(files: &[&NamedTempFile]) -> Value {
    serde_json::from_str(&printed(files, Output::Json, None)).unwrap()
}

#[test]
fn a_real_log_is_counted() {
    let report = json(&[&file(sample().as_bytes())]);
    let counts = [
        ("lines", 14),
        ("creates", 11),
        ("quotaConflicts", 2),
        ("throttled", 1),
        ("startingOrStopping", 0),
        ("wouldReplay", 3),
    ];
    every(counts, |(name, count)| assert_eq!(report[name], count));
    let first = &report["rows"][0];
    assert_eq!(first["namespace"], "team-a");
    assert_eq!(first["resource"], "pods");
    assert_eq!(first["userAgent"], "driver");
    assert_eq!(
        (&first["creates"], &first["quotaConflicts"]),
        (&3.into(), &1.into())
    );
    assert_eq!(report["answers"]["quota_evaluation_timeout"], 1);
    assert_eq!(report["from"], "2026-11-27T03:18:14Z");
    let points = report["timeline"]["quotaConflicts"].as_array().unwrap();
    assert_eq!(points.iter().filter_map(Value::as_u64).sum::<u64>(), 2);
    assert_eq!(report["skipped"], Value::Array(Vec::new()));
}

#[test]
fn files_in_any_order_and_form_give_the_same_counts() {
    let whole = sample();
    let middle = whole.match_indices('\n').nth(6).unwrap().0 + 1;
    let (old, new) = whole.split_at(middle);
    let mut expected = json(&[&file(whole.as_bytes())]);
    let members = [gzip(old.as_bytes()), gzip(new.as_bytes())].concat();
    let (old, new) = (file(old.as_bytes()), file(&gzip(new.as_bytes())));
    every(
        [&[&old, &new][..], &[&new, &old], &[&file(&members)]],
        |files| {
            let mut found = json(files);
            for report in [&mut found, &mut expected] {
                report["files"] = 0.into();
            }
            assert_eq!(found, expected);
        },
    );
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_counts() {
    let whole = sample();
    let cut = &whole[..whole.len() - 100];
    let mixed = file(format!("hello\n\n{whole}goodbye\n{cut}").as_bytes());
    let report = json(&[&mixed]);
    assert_eq!(report["quotaConflicts"], 4);
    let path = mixed.path().display();
    let skipped = |at: usize| {
        let skipped = &report["skipped"][at];
        let text = |name: &str| skipped[name].as_str().unwrap().to_owned();
        (
            skipped["count"].as_u64().unwrap(),
            text("problem"),
            text("first"),
        )
    };
    assert_eq!(
        skipped(0),
        (2, "is no audit event in JSON".into(), format!("{path}:1"))
    );
    assert_eq!(
        skipped(1),
        (1, "is cut off or damaged".into(), format!("{path}:31"))
    );

    let members = gzip(whole.as_bytes());
    let cut = file(&members[..members.len() - 9]);
    let text = printed(&[&cut, &file(whole.as_bytes())], Output::Table, None);
    assert!(
        text.contains("Skipped: ") && text.contains("cannot be read: "),
        "{text}"
    );
    assert!(text.contains("in 2 files"), "{text}");
}

#[test]
fn a_log_without_what_is_needed_says_so() {
    let line = sample().lines().nth(4).unwrap().to_owned();
    let is = |from: &str, to: &str| {
        let other = line.replace(from, to);
        assert_ne!(other, line);
        other
    };
    every(
        [
            (String::new(), "The log is empty."),
            (
                is("\"create\"", "\"get\""),
                "The log has no create of a namespaced object.",
            ),
            (
                is("ResponseComplete", "RequestReceived"),
                "only at the stage RequestReceived",
            ),
            (is("responseStatus", "x"), "have no responseStatus"),
            (
                is("\"pods\"", "\"secrets\""),
                "The log has no create of a pod.",
            ),
        ],
        |(log, words)| {
            let text = printed(&[&file(log.as_bytes())], Output::Table, None);
            assert!(text.contains(words), "{text}");
        },
    );
    let text = printed(&[&file(line.as_bytes())], Output::Table, None);
    assert!(!text.contains("The log has no"), "{text}");
}

#[test]
fn files_that_are_no_audit_log_fail() {
    every(
        [
            &b"hello\n"[..],
            b"2026-11-27T03:22:02Z AUDIT: id=\"a\" stage=\"ResponseComplete\" method=\"create\"\n",
            b"\x1f\x8bno gzip",
            b"{\"protoPayload\":{\"methodName\":\"io.k8s.core.v1.pods.create\"}}\n",
        ],
        |bytes| {
            let mut log = Log::new(&Config::default());
            let file = file(bytes);
            log.read_all(&[file.path().to_owned()]).unwrap();
            assert_eq!((log.lines, log.skipped.len()), (0, 1));
            let args = AuditArgs {
                audit_log: vec![file.path().to_owned()],
                top: None,
                output: Output::Table,
            };
            let error = run(&args, &Config::default(), &mut Vec::new()).unwrap_err();
            let expected = format!("{}:1 ", file.path().display());
            assert!(error.to_string().contains(&expected), "{error}");
        },
    );
    let missing = Log::new(&Config::default()).read_all(&["/nowhere".into()]);
    assert!(matches!(missing, Err(AuditError::Open { .. })));
}

#[test]
fn the_table_shows_the_first_clients() {
    let log = file(sample().as_bytes());
    let text = printed(&[&log], Output::Table, None);
    every(
        [
            "14 lines in 1 file",
            "met a quota conflict              2 (18.2 %)",
            "team-b      pods       driver       2         1                 0",
            "quota conflicts per ",
        ],
        |line| assert!(text.contains(line), "{text}"),
    );
    assert!(!text.contains("configmaps"), "{text}");
    let text = printed(&[&log], Output::Table, Some(1));
    assert!(
        text.contains("team-a") && !text.contains("team-b "),
        "{text}"
    );
    assert!(text.contains("and 1 more\n"), "{text}");
    let report = printed(&[&log], Output::Json, Some(1));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["rows"].as_array().unwrap().len(), 1);
}

#[test]
fn the_mode_decides_what_is_sent_again() {
    let log = file(sample().as_bytes());
    every(
        [
            (Mode::Off, "mode is Off"),
            (Mode::Observe, "only count them: mode is Observe"),
            (Mode::Enforce, "the proxy would send again"),
        ],
        |(mode, words)| {
            let config = Config {
                mode,
                ..Config::default()
            };
            let args = AuditArgs {
                audit_log: vec![log.path().to_owned()],
                top: None,
                output: Output::Table,
            };
            let mut out = Vec::new();
            assert_eq!(run(&args, &config, &mut out).unwrap().unwrap(), 11);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains(words), "{text}");
            assert_eq!(
                text.contains("the proxy would send again"),
                mode == Mode::Enforce
            );
        },
    );
}

#[test]
fn shares_are_rounded() {
    every(
        [
            (2, 11, "2 (18.2 %)"),
            (494, 2161, "494 (22.9 %)"),
            (1, 2000, "1 (0.1 %)"),
            (1, 2001, "1 (< 0.1 %)"),
            (7, 7, "7 (100.0 %)"),
            (0, 7, "0"),
            (0, 0, "0"),
        ],
        |(part, all, expected)| assert_eq!(report::share(part, all), expected),
    );
}
