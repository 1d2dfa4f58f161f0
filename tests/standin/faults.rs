//! Reads that fail because a test says so.

use std::collections::HashMap;

use super::refusal::Refusal;

/// The faults by secret, under the id that the test gave.
#[derive(Default)]
pub struct Faults(HashMap<String, Refusal>);

impl Faults {
    pub fn fail(&mut self, secret: &str, code: &str, message: &str) {
        self.0.insert(secret.to_owned(), Refusal::of(code.to_owned(), message));
    }

    pub fn heal(&mut self, secret: &str) {
        self.0.remove(secret);
    }

    /// The fault of a secret, by the id that a call names and by the name of the secret that it means, if there is one.
    pub fn of(&self, id: &str, name: Option<&str>) -> Result<(), Refusal> {
        let fault = self.0.get(id).or_else(|| self.0.get(name?));
        fault.map_or(Ok(()), |fault| Err(fault.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_by_id_and_by_name_until_it_is_healed() {
        let mut faults = Faults::default();
        faults.fail("app", "DecryptionFailure", "no key");
        let fault = faults.of("arn:app", Some("app")).unwrap_err();
        assert_eq!((fault.status, fault.code.as_ref(), fault.message.as_str()), (400, "DecryptionFailure", "no key"));
        assert!(faults.of("app", None).is_err());
        assert!(faults.of("other", Some("other")).is_ok());
        faults.heal("app");
        assert!(faults.of("app", Some("app")).is_ok());
        faults.fail("app", "InternalServiceError", "");
        assert_eq!(faults.of("app", None).unwrap_err().status, 500);
    }
}
