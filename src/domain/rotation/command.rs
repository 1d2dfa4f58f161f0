//! What the annotation `bindery.dev/rotation` asks for.

/// A command: a verb, `-`, the name of a rule, and after a space any text that makes it a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationCommand<'a> {
    /// What is to be done.
    pub verb: Verb,
    /// The rule.
    pub rule: &'a str,
}

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The rule is overdue now.
    Emergency,
    /// The overlap of the rule goes back to the old value.
    Abort,
    /// The old value of the rule's overlap may go.
    Retire,
}

impl<'a> RotationCommand<'a> {
    /// Parses the text of the annotation. `None` where it is no command.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let first = text.split_whitespace().next()?;
        [("emergency-", Verb::Emergency), ("abort-", Verb::Abort), ("retire-", Verb::Retire)]
            .into_iter()
            .find_map(|(prefix, verb)| first.strip_prefix(prefix).map(|rule| Self { verb, rule }))
            .filter(|command| !command.rule.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::rotation::command::{RotationCommand, Verb};

    #[test]
    fn a_command_is_a_verb_and_a_rule_and_the_rest_only_makes_it_new() {
        let parsed = |text| RotationCommand::parse(text).map(|command| (command.verb, command.rule));
        assert_eq!(parsed("emergency-tiktok-session"), Some((Verb::Emergency, "tiktok-session")));
        assert_eq!(parsed("emergency-tiktok-session 2026-11-24"), Some((Verb::Emergency, "tiktok-session")));
        assert_eq!(parsed("abort-a"), Some((Verb::Abort, "a")));
        assert_eq!(parsed("retire-a-b"), Some((Verb::Retire, "a-b")));
        for none in ["", " ", "emergency-", "emergency", "tiktok-session", "Emergency-a"] {
            assert_eq!(parsed(none), None, "{none:?}");
        }
    }
}
