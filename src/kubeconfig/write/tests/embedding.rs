//! Tokens in a kubeconfig instead of the paths of their files.

use std::fs;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;

#[test]
fn an_embedded_token_replaces_the_file_and_says_when_it_expires() {
    let (tree, warnings) = rewritten(ORIGINAL, Some("prod-robot"), Some(at(100)));
    assert_eq!(
        tree["users"][1]["user"],
        json!({"client-certificate": "/home/also.crt", "token": "its-token"})
    );
    assert_eq!(
        warnings[1],
        Warning::Embedded {
            user: "robot".into(),
            expires: None,
            now: 100
        }
    );
    let shown = warnings[1].to_string();
    assert!(shown.contains("does not say when it expires"), "{shown}");
    assert!(!shown.contains("its-token"), "{shown}");

    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"exp":4000}"#));
    fs::write(&token_file, format!("{token}\n")).unwrap();
    let new = |now| NewKubeconfig {
        token_file: &token_file,
        namespace: None,
        embed: now,
    };
    let written = new_kubeconfig(PROXY, new(Some(at(400)))).unwrap();
    assert!(written.text.contains(&format!("token: {token}\n")));
    assert!(!written.text.contains("tokenFile"), "{}", written.text);
    let shown = written.warnings[0].to_string();
    assert!(
        shown.contains("it expires at 1970-01-01T01:06:40Z, in 1h, and nothing renews it"),
        "{shown}"
    );
    for (left, words) in [
        (59, "in 59s,"),
        (3599, "in 59m59s,"),
        (86_399, "in 23h59m,"),
        (86_400, "in 1 day,"),
        (2 * 86_400 - 1, "in 1 day,"),
        (4_245_132, "in 49 days,"),
    ] {
        let user = "u".to_owned();
        let expires = Some(1_000_000_000 + left);
        let now = 1_000_000_000;
        let shown = Warning::Embedded { user, expires, now }.to_string();
        assert!(shown.contains(words), "{shown}");
    }
    let written = new_kubeconfig(PROXY, new(Some(at(4000)))).unwrap();
    let shown = written.warnings[0].to_string();
    assert!(
        shown.ends_with("it expired at 1970-01-01T01:06:40Z"),
        "{shown}"
    );

    let written = new_kubeconfig(PROXY, new(None)).unwrap();
    assert_eq!(
        written.warnings,
        [Warning::Space {
            path: token_file.clone()
        }]
    );
    let shown = written.warnings[0].to_string();
    assert!(shown.contains("--embed-token"), "{shown}");
}

#[test]
fn only_the_user_of_the_context_must_have_a_token_to_embed() {
    let text = ORIGINAL.replace("tokenFile: token", "tokenFile: nowhere");
    let (tree, warnings) = rewritten(&text, None, Some(at(0)));
    assert_eq!(tree["users"][1]["user"]["tokenFile"], "/home/nowhere");
    assert!(
        matches!(&warnings[..], [_, Warning::NothingToEmbed { user }, Warning::NotEmbedded { user: robot, .. }]
            if user == "admin" && robot == "robot"),
        "{warnings:?}"
    );
    let directory = place(&text);
    let error = rewrite(&load(&directory), Some("prod-robot"), PROXY, Some(at(0))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token of user 'robot' cannot be embedded"
    );
    fs::write(directory.path().join("nowhere"), "two words").unwrap();
    let error = rewrite(&load(&directory), Some("prod-robot"), PROXY, Some(at(0))).unwrap_err();
    let KubeconfigError::Token { source, .. } = error else {
        panic!("{error}");
    };
    assert!(source.to_string().ends_with("nowhere: expected one token"));
}
