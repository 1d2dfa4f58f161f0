//! A program whose pods encrypt and decrypt rows with the keys they started with, as the guide's app and worker do.
//!
//! kwok's pods run nothing, so this plays what they would do: the kubelet reads the Secret once the pod is there, and
//! the container keeps that environment until the pod is gone.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// The name of the key in the guide.
pub const KEY: &str = "TOKEN_ENCRYPTION_KEY";

/// A fresh value for it.
pub fn new_key() -> String {
    let mut bytes = [0; 32];
    bytes.fill_with(|| fastrand::u8(..));
    STANDARD.encode(bytes)
}

/// The keys in the environment of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// What it encrypts with.
    pub key: String,
    /// What it can decrypt as well.
    pub beside: Vec<String>,
}

impl Environment {
    /// What the kubelet gives a container, by the Secret as it is.
    pub fn of(data: &BTreeMap<String, String>) -> Option<Self> {
        let beside = ["_NEXT", "_PREVIOUS"].iter().filter_map(|suffix| data.get(&format!("{KEY}{suffix}")).cloned());
        Some(Self { key: data.get(KEY)?.clone(), beside: beside.collect() })
    }
}

/// A token, encrypted.
#[derive(Clone)]
pub struct Row {
    nonce: [u8; 12],
    sealed: Vec<u8>,
}

fn cipher(key: &str) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &STANDARD.decode(key).unwrap()).unwrap())
}

impl Row {
    fn encrypt(plain: &[u8], key: &str) -> Self {
        let mut nonce = [0; 12];
        nonce.fill_with(|| fastrand::u8(..));
        let mut sealed = plain.to_vec();
        let cipher = cipher(key);
        cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).unwrap();
        Self { nonce, sealed }
    }

    fn decrypt(&self, key: &str) -> Option<Vec<u8>> {
        let mut opened = self.sealed.clone();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        cipher(key).open_in_place(nonce, Aad::empty(), &mut opened).ok().map(|plain| plain.to_vec())
    }

    fn read(&self, environment: &Environment) -> Option<Vec<u8>> {
        std::iter::once(&environment.key).chain(&environment.beside).find_map(|key| self.decrypt(key))
    }
}

/// The table that app and worker share.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// A pod stores a token.
    pub fn store(&mut self, environment: &Environment) {
        if self.0.len() < 12 {
            let plain = format!("token {}", self.0.len());
            self.0.push(Row::encrypt(plain.as_bytes(), &environment.key));
        } else {
            let row = fastrand::usize(..self.0.len());
            self.0[row] = Row::encrypt(format!("token {row}").as_bytes(), &environment.key);
        }
    }

    /// How many rows a pod cannot decrypt.
    pub fn lost_to(&self, environment: &Environment) -> usize {
        self.0.iter().filter(|row| row.read(environment).is_none()).count()
    }

    /// The Job encrypts all anew; answers how many rows it could not decrypt.
    pub fn encrypt_anew(&mut self, environment: &Environment) -> usize {
        let lost = self.lost_to(environment);
        for row in &mut self.0 {
            if let Some(plain) = row.read(environment) {
                *row = Row::encrypt(&plain, &environment.key);
            }
        }
        lost
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[test]
fn a_pod_reads_what_its_keys_encrypted_and_nothing_else() {
    let (first, second) = (new_key(), new_key());
    let with = |key: &str, beside: &[&str]| Environment {
        key: key.to_owned(),
        beside: beside.iter().map(ToString::to_string).collect(),
    };
    let mut table = Table::default();
    table.store(&with(&first, &[]));
    assert_eq!(table.lost_to(&with(&second, &[])), 1);
    assert_eq!(table.lost_to(&with(&second, &[&first])), 0);
    assert_eq!(table.encrypt_anew(&with(&second, &[&first])), 0);
    assert_eq!((table.lost_to(&with(&second, &[])), table.lost_to(&with(&first, &[])), table.len()), (0, 1, 1));
}
