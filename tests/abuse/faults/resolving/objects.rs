//! The common store of the upstreams: objects by name, as an apiserver keeps them.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use serde_json::{Value, json};

#[derive(Default)]
pub struct Objects(Mutex<State>);

#[derive(Default)]
struct State {
    by_name: HashMap<String, Value>,
    uids: HashSet<String>,
    /// How many objects each create has stored.
    stored_by: HashMap<usize, usize>,
}

impl Objects {
    /// Stores what create `number` sent, with what the server and a webhook add. None: the name is
    /// taken.
    pub fn create(&self, number: usize, sent: &[u8]) -> Option<Value> {
        let mut object: Value = serde_json::from_slice(sent).unwrap();
        let mut state = self.0.lock().unwrap();
        let name = match object["metadata"]["name"].as_str() {
            Some(name) => name.to_owned(),
            None => format!("step-{}", state.uids.len()),
        };
        if state.by_name.contains_key(&name) {
            return None;
        }
        let uid = format!("uid-{}", state.uids.len());
        let meta = &mut object["metadata"];
        meta["name"] = json!(name);
        meta["namespace"] = json!("faults");
        meta["uid"] = json!(uid);
        meta["creationTimestamp"] = json!(created());
        meta["managedFields"] = json!([{ "manager": "lab", "operation": "Update" }]);
        object["spec"]["restartPolicy"] = json!("Always");
        let sidecar = json!({ "name": "sidecar", "image": "proxy" });
        object["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .insert(0, sidecar);
        *state.stored_by.entry(number).or_default() += 1;
        state.uids.insert(uid);
        state.by_name.insert(name, object.clone());
        Some(object)
    }

    pub fn get(&self, name: &str) -> Option<Value> {
        self.0.lock().unwrap().by_name.get(name).cloned()
    }

    pub fn has(&self, uid: &str) -> bool {
        self.0.lock().unwrap().uids.contains(uid)
    }

    pub fn stored_by(&self, number: usize) -> usize {
        let state = self.0.lock().unwrap();
        state.stored_by.get(&number).copied().unwrap_or_default()
    }
}

/// `Date` of an answer that leaves now.
pub fn date() -> String {
    let now = time::OffsetDateTime::now_utc();
    let short = |word: String| word[..3].to_owned();
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        short(now.weekday().to_string()),
        now.day(),
        short(now.month().to_string()),
        now.year(),
        now.hour(),
        now.minute(),
        now.second()
    )
}

/// The time as in `creationTimestamp`.
fn created() -> String {
    let now = time::OffsetDateTime::now_utc();
    format!(
        "{}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second()
    )
}
