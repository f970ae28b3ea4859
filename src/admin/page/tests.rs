use crate::rows::every;
use serde_json::Value;

use super::super::gather::tests::example;
use super::*;

const HOSTILE: &str = "<script>alert(1)</script>\"'>&<img src=x onerror=alert(1)>";

/// The visible text of a piece of HTML, without its tags.
fn text(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for char in html.chars() {
        match char {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            char if !inside => text.push(char),
            _ => (),
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn section(page: &str, id: &str) -> String {
    let start = page
        .find(&format!("<section id=\"{id}\""))
        .unwrap_or_else(|| panic!("no section {id}"));
    text(&page[start..start + page[start..].find("</section>").unwrap()])
}

/// Puts `text` into every text of a value.
fn everywhere(value: &mut Value, hostile: &str) {
    match value {
        Value::String(text) => hostile.clone_into(text),
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| everywhere(value, hostile)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| everywhere(value, hostile)),
        _ => (),
    }
}

#[test]
fn the_page_shows_every_number_without_scripts() {
    let page = page(&example());
    let conflicts = section(&page, "conflicts");
    every(
        [
            "absorbed in the last minute 4",
            "absorbed since the start 4 of 5",
            "given up at a limit 1",
            "held now 1",
        ],
        |part| {
            assert!(conflicts.contains(part), "{part}: {conflicts}");
        },
    );
    assert!(
        section(&page, "namespaces").contains("busy 3 2 1"),
        "{}",
        section(&page, "namespaces")
    );
    assert!(
        section(&page, "resources").contains("pods 5 1 1 1"),
        "{}",
        section(&page, "resources")
    );
    assert!(
        section(&page, "held").contains("pods busy/waiting 1 quota conflict"),
        "{}",
        section(&page, "held")
    );
    let servers = section(&page, "servers");
    assert!(
        servers.contains("https://10.0.0.1:6443 up for 3 min 20 s 3 9 busy, quiet"),
        "{servers}"
    );
    assert!(
        servers.contains("https://10.0.0.2:6443 down for 3 min 20 s connection refused 3 9 none"),
        "{servers}"
    );
    assert!(
        section(&page, "limits").contains("Attempts of one create replay.maxAttempts 8 1"),
        "{}",
        section(&page, "limits")
    );
    for tile in [
        "until the certificate expires 1 day",
        "until the front proxy's certificate expires 2 h",
    ] {
        assert!(conflicts.contains(tile), "{tile}: {conflicts}");
    }
    let decisions = section(&page, "decisions");
    assert!(
        decisions.contains("pods busy/step-* created after a replay 409 quota conflict, sent again after 58 ms: connect failed"),
        "{decisions}"
    );
    assert!(
        text(&page).contains("Not ready Enforce")
            && text(&page).contains("upstream : connection refused")
    );
}

#[test]
fn no_text_of_a_snapshot_can_become_markup() {
    let mut json = serde_json::to_value(example()).unwrap();
    everywhere(&mut json, HOSTILE);
    let page = page(&serde_json::from_value(json).unwrap());
    assert!(
        !page.contains("<script>alert") && !page.contains("<img") && !page.contains(HOSTILE),
        "{page}"
    );
    // Each of them is in the page as text: at least 12 kinds of texts, and no attribute ends early.
    assert!(
        page.matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&gt;&amp;")
            .count()
            >= 12
    );
    assert_eq!(page.matches("<script>").count(), 1, "the page's own");
}

#[test]
fn the_policy_allows_this_page_and_nothing_else() {
    let page = page(&example());
    let between = |start: &str, end: &str| {
        page.split_once(start)
            .unwrap()
            .1
            .split_once(end)
            .unwrap()
            .0
            .to_owned()
    };
    for (element, text) in [
        ("style", between("<style>", "</style>")),
        ("script", between("<script>", "</script>")),
    ] {
        let hash = BASE64.encode(sha256(text.as_bytes()));
        assert!(
            POLICY.contains(&format!("{element}-src 'sha256-{hash}';")),
            "{}",
            *POLICY
        );
    }
    assert!(
        POLICY.starts_with("default-src 'none'; ") && !POLICY.contains("unsafe"),
        "{}",
        *POLICY
    );
    every(
        [" style=", " onclick=", "http://", "src=", "@import", "url("],
        |forbidden| {
            assert!(!page.contains(forbidden), "{forbidden}");
        },
    );
}

#[test]
fn every_live_element_is_in_the_page_with_a_unique_id() {
    let snapshot = example();
    let (whole, mut ids) = (page(&snapshot), Vec::new());
    for element in live(&snapshot) {
        assert!(whole.contains(&element));
        ids.push(
            element
                .split_once("id=\"")
                .unwrap()
                .1
                .split_once('"')
                .unwrap()
                .0
                .to_owned(),
        );
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), count), (9, 9), "{ids:?}");
}
