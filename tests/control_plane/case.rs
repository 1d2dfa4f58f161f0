//! The faults of the matrix, and what each of them may do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ApiFault;
use crate::support::api_proxy::{ApiRequest, Verb};

use super::row::Row;

/// What may be expected while a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// Nothing is seen. Health says so, and nothing that was revoked is served for longer than a minute.
    Blind,
    /// All is acted on, if later.
    Acts,
    /// Writes are refused, and what is refused is tried again.
    Refused,
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What the proxy does.
    pub fault: ApiFault,
    /// What may be expected.
    pub meanwhile: Meanwhile,
}

/// All of them.
pub fn all() -> Vec<Case> {
    use Meanwhile::{Acts, Blind, Refused};
    let case = |name, fault, meanwhile| Case { name, fault, meanwhile };
    vec![
        case("hang", ApiFault::Stall, Blind),
        case("cut", ApiFault::Cut, Blind),
        case("403", ApiFault::Status(403), Blind),
        case("410", ApiFault::Status(410), Blind),
        case("429", ApiFault::Status(429), Blind),
        case("500", ApiFault::Status(500), Blind),
        case("503", ApiFault::Status(503), Blind),
        case("delay", ApiFault::Delay(Duration::from_millis(200)), Acts),
        case("pages", ApiFault::Pages(Duration::from_millis(200)), Acts),
        case("dropped", ApiFault::DropEvents, Acts),
        case("repeated", ApiFault::RepeatEvents, Acts),
        case("unreadable", ApiFault::Alter(make_unreadable), Acts),
        case("refused", ApiFault::Status(403), Refused),
    ]
}

impl Case {
    /// Whether a row has this case. Of namespaces nothing is written.
    pub fn is_of(&self, row: Row) -> bool {
        self.meanwhile != Meanwhile::Refused || row.written().is_some()
    }

    /// The requests that meet the fault.
    pub fn concerns(&self, row: Row) -> impl Fn(&ApiRequest) -> bool + Send + Sync + use<> {
        let (resource, written) = (row.resource(), row.written());
        let refused = self.meanwhile == Meanwhile::Refused;
        move |request| {
            if refused {
                request.writes() && Some(request.resource.as_str()) == written
            } else {
                matches!(request.verb, Verb::List | Verb::Watch) && request.resource == resource
            }
        }
    }
}

/// Makes the objects unreadable that are there for it: their times lie beyond all time, and their fields are of other
/// types.
fn make_unreadable(object: &mut Value) {
    if !object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("decoy")) {
        return;
    }
    let never = json!("9999-12-31T23:59:59Z");
    object["metadata"]["creationTimestamp"] = never.clone();
    object["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Update", "time": never}]);
    object["metadata"]["annotations"] = json!({"a": 7});
    object["metadata"]["ownerReferences"] = json!("nobody");
    object["spec"] = json!({"expiresAt": never, "dataFrom": 7});
}
