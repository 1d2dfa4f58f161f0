use super::*;

/// Bytes that count up, so that every draw is another.
fn counting(start: u64) -> impl FnMut(&mut [u8]) -> Result<(), NoRandomness> + Send {
    let mut at = start;
    move |bytes| {
        for byte in bytes {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = u8::try_from(at >> 56).unwrap();
        }
        Ok(())
    }
}

fn drawn(bytes: usize, encoding: GenerateEncoding, random: &mut Random<'_>) -> String {
    let value = value(Recipe { bytes, encoding }, random).unwrap();
    String::from_utf8(value.expose().to_vec()).unwrap()
}

#[test]
fn values_have_the_length_and_the_characters_that_their_recipe_says() {
    let mut random = counting(1);
    let base64 = drawn(32, GenerateEncoding::Base64, &mut random);
    assert_eq!(STANDARD.decode(&base64).unwrap().len(), 32);
    let digits = drawn(32, GenerateEncoding::Hex, &mut random);
    assert!(digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    let letters = drawn(40, GenerateEncoding::Alphanumeric, &mut random);
    assert!(letters.len() == 40 && letters.bytes().all(|b| b.is_ascii_alphanumeric()), "{letters}");
    assert_ne!(letters, drawn(40, GenerateEncoding::Alphanumeric, &mut random));
    let mut none = |_: &mut [u8]| Err(NoRandomness);
    let recipe = Recipe { bytes: 16, encoding: GenerateEncoding::Hex };
    assert_eq!(value(recipe, &mut none).unwrap_err(), NoRandomness);
}

#[test]
fn every_letter_and_digit_is_equally_likely() {
    // Every byte equally often: each character must come exactly as often as any other.
    let mut next = 0u8;
    let mut random = move |bytes: &mut [u8]| {
        for byte in bytes {
            *byte = next;
            next = next.wrapping_add(1);
        }
        Ok(())
    };
    let mut counts = BTreeMap::new();
    for character in drawn(62 * 4, GenerateEncoding::Alphanumeric, &mut random).chars() {
        *counts.entry(character).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 62);
    assert!(counts.values().all(|count| *count == 4), "{counts:?}");
}

#[test]
fn a_ticket_tells_its_own_versions_from_all_others() {
    let due = |second| Timestamp::from_second(second).unwrap();
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let ticket = Ticket::new("arn:a", &keys(&["K", "L"]), due(1));
    assert_eq!(ticket, Ticket::new("arn:a", &keys(&["L", "K"]), due(1)));
    let token = ticket.token("base");
    assert!(token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(ticket.made(&token) && ticket.made(&ticket.token("other")));
    assert_ne!(token, ticket.token("other"));
    for other in [
        Ticket::new("arn:b", &keys(&["K", "L"]), due(1)),
        Ticket::new("arn:a", &keys(&["K"]), due(1)),
        Ticket::new("arn:a", &keys(&["K", "L"]), due(2)),
    ] {
        assert!(!other.made(&token));
    }
    assert!(!ticket.made("a67b1b3a-8c9e-4d4b-9d55-0c9e3c4a7c11") && !ticket.made(""));
}

/// A secret of a world in which calls have their documented effect: the key, and another key that is edited.
#[derive(Clone)]
struct Model {
    versions: BTreeMap<String, (String, u32)>,
    current: String,
    pending: Option<String>,
    moved: u32,
    edited: u32,
}

struct World {
    secrets: Vec<Model>,
    tickets: Vec<Ticket>,
    edits: u32,
}

impl World {
    fn new(secrets: usize) -> Self {
        let model = Model {
            versions: BTreeMap::from([("v0".to_owned(), ("old".to_owned(), 0))]),
            current: "v0".to_owned(),
            pending: None,
            moved: 0,
            edited: 0,
        };
        let ticket = |n: usize| Ticket::new(&format!("arn:{n}"), &["K".to_owned()], Timestamp::UNIX_EPOCH);
        Self { secrets: vec![model; secrets], tickets: (0..secrets).map(ticket).collect(), edits: 0 }
    }

    fn seen(&self) -> Vec<SeenSecret> {
        let version = |model: &Model, id: &String| SeenVersion {
            id: id.clone(),
            values: vec![(0, Value::from(model.versions[id].0.as_str()))],
        };
        let seen = |(model, ticket): (&Model, &Ticket)| SeenSecret {
            ticket: ticket.clone(),
            current: version(model, &model.current),
            pending: model.pending.as_ref().map(|id| version(model, id)),
        };
        self.secrets.iter().zip(&self.tickets).map(seen).collect()
    }

    /// Somebody changes the other key of a secret.
    fn edit(&mut self, secret: usize) {
        self.edits += 1;
        let model = &mut self.secrets[secret];
        model.edited += 1;
        let (key, other) = model.versions[&model.current].clone();
        let id = format!("edit-{}", self.edits);
        model.versions.insert(id.clone(), (key, other + 1));
        model.current = id;
    }

    /// Carries out a step that was decided on `based`, which may be outdated by now.
    fn carry_out(&mut self, step: &GenerationStep, based: &[SeenSecret], value: &str) {
        match step {
            GenerationStep::Put { secret, token } => {
                let model = &mut self.secrets[*secret];
                let (_, other) = model.versions[&based[*secret].current.id].clone();
                // A known token leaves the version as it is.
                model.versions.entry(token.clone()).or_insert((value.to_owned(), other));
                model.pending = Some(token.clone());
            }
            GenerationStep::Move { secret, from, to } => {
                let model = &mut self.secrets[*secret];
                if model.current == *from {
                    model.current.clone_from(to);
                    model.moved += 1;
                }
            }
            GenerationStep::Unlabel { secret, version } => {
                let model = &mut self.secrets[*secret];
                if model.pending.as_ref() == Some(version) {
                    model.pending = None;
                }
            }
            GenerationStep::Done => {}
        }
    }
}

/// Runs a rotation; memory is lost before the calls `kills`, and before the calls `edits` somebody edits a secret, after
/// the call was decided where `late`.
fn run(secrets: usize, kills: &[usize], edits: &[(usize, usize)], late: bool) -> World {
    let mut world = World::new(secrets);
    let (mut drawn, mut draws) = (None::<Value>, 0);
    for call in 0.. {
        assert!(call < 60, "it ends: {kills:?} {edits:?}");
        if kills.contains(&call) {
            drawn = None;
        }
        let edit = |world: &mut World| {
            for (_, secret) in edits.iter().filter(|(at, _)| *at == call) {
                world.edit(*secret);
            }
        };
        if !late {
            edit(&mut world);
        }
        let seen = world.seen();
        let mut known = known(&seen);
        // A rotation begins only where the key's age says that it is due.
        if known.is_empty() && drawn.is_none() && seen[0].current.values[0].1.expose() != b"old" {
            return world;
        }
        let value = known.entry(0).or_insert_with(|| {
            drawn
                .get_or_insert_with(|| {
                    draws += 1;
                    Value::from(format!("new-{draws}"))
                })
                .clone()
        });
        let value = String::from_utf8(value.expose().to_vec()).unwrap();
        let step = next(&seen, &known);
        if late {
            edit(&mut world);
        }
        if step == GenerationStep::Done {
            return world;
        }
        world.carry_out(&step, &seen, &value);
    }
    unreachable!()
}

#[test]
fn however_it_is_interrupted_and_edited_each_secret_gets_one_new_version_of_the_one_value() {
    for secrets in 1..=3 {
        let calls = 3 * secrets + 1;
        let mut edits: Vec<Vec<(usize, usize)>> = vec![vec![]];
        for at in 0..=calls {
            for secret in 0..secrets {
                edits.push(vec![(at, secret)]);
                edits.extend((at..=calls).map(|again| vec![(at, secret), (again, (secret + 1) % secrets)]));
            }
        }
        for edits in &edits {
            for first in 0..=calls {
                for second in first..=calls + 1 {
                    for late in [false, true] {
                        let world = run(secrets, &[first, second], edits, late);
                        let case =
                            || format!("{secrets} secrets, killed at {first} and {second}, edited {edits:?} {late}");
                        let values: Vec<&String> =
                            world.secrets.iter().map(|model| &model.versions[&model.current].0).collect();
                        assert!(
                            values.iter().all(|value| *value == values[0] && *value != "old"),
                            "{}: {values:?}",
                            case()
                        );
                        for model in &world.secrets {
                            assert_eq!(model.moved, 1, "{}", case());
                            assert_eq!(model.pending, None, "{}", case());
                            assert_eq!(model.versions[&model.current].1, model.edited, "{}: edits are kept", case());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_an_earlier_rotation_left_behind_is_written_over() {
    let mut world = World::new(1);
    let earlier = Ticket::new("arn:0", &["K".to_owned()], Timestamp::MIN);
    let left = earlier.token("v0");
    world.secrets[0].versions.insert(left.clone(), ("stale".to_owned(), 0));
    world.secrets[0].pending = Some(left);
    let seen = world.seen();
    assert!(known(&seen).is_empty());
    assert!(matches!(next(&seen, &BTreeMap::from([(0, Value::from("new"))])), GenerationStep::Put { secret: 0, .. }));
}

#[test]
fn several_keys_get_a_value_each_and_one_value_goes_to_several_secrets() {
    let ticket = |n: usize| Ticket::new(&format!("arn:{n}"), &["K".to_owned()], Timestamp::UNIX_EPOCH);
    let version = |id: &str, values: &[(Slot, &str)]| SeenVersion {
        id: id.to_owned(),
        values: values.iter().map(|(slot, value)| (*slot, Value::from(*value))).collect(),
    };
    let token = ticket(1).token("b");
    let secrets = [
        SeenSecret { ticket: ticket(0), current: version("a", &[(0, "x"), (1, "y")]), pending: None },
        SeenSecret {
            ticket: ticket(1),
            current: version("b", &[(1, "y")]),
            pending: Some(version(&token, &[(1, "new")])),
        },
    ];
    let found = known(&secrets);
    assert_eq!(found.keys().collect::<Vec<_>>(), [&1]);
    assert_eq!(found[&1].expose(), b"new");
    let all = BTreeMap::from([(0, Value::from("other")), (1, found[&1].clone())]);
    assert_eq!(next(&secrets, &all), GenerationStep::Put { secret: 0, token: ticket(0).token("a") });
}
