//! Tokens of web identities: JWTs with RS256, as the API server issues them for ServiceAccounts.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

/// The public half of an RSA key, as ring wants it: the `RSAPublicKey` of PKCS #1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Reads a PEM file with a `PUBLIC KEY`, such as `sa.pub` of the test cluster.
    ///
    /// # Panics
    /// Where it is none, since nothing could be checked without it.
    pub fn from_pem(pem: &str) -> Self {
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        assert!(pem.contains("-----BEGIN PUBLIC KEY-----"), "a PEM file with a PUBLIC KEY is needed");
        let der = STANDARD.decode(body).expect("the text of a PEM file is base64");
        Self(rsa_key(&der).expect("the key is an RSA key").to_vec())
    }

    /// Whether this key has signed a message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.0).verify(message, signature).is_ok()
    }
}

/// A `SubjectPublicKeyInfo` is a sequence of the algorithm, a sequence too, and a string of bits with the key.
fn rsa_key(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const BITS: u8 = 0x03;
    let (outer, _) = element(der, SEQUENCE)?;
    let (_algorithm, rest) = element(outer, SEQUENCE)?;
    let (bits, _) = element(rest, BITS)?;
    // The first byte counts the bits that are not used: none.
    bits.strip_prefix(&[0])
}

/// The content of the first element, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (bytes.iter().try_fold(0_usize, |length, byte| length.checked_mul(256)?.checked_add(usize::from(*byte)))?, rest)
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// An identity provider of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its ARN, which ends with the issuer without its scheme.
    pub arn: String,
    /// The issuer, an `https` URL.
    pub issuer: String,
    /// The audiences that it accepts; AWS calls them client ids.
    pub audiences: Vec<String>,
    /// The keys that sign its tokens.
    pub keys: Vec<PublicKey>,
}

impl Provider {
    /// The prefix of its condition keys.
    pub fn prefix(&self) -> &str {
        self.issuer.strip_prefix("https://").unwrap_or(&self.issuer)
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who issued it.
    pub issuer: String,
    /// For whom it speaks.
    pub subject: String,
    /// For whom it is meant.
    pub audience: String,
    expires: u64,
    not_before: u64,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is no JWT with RS256 and the claims that are needed.
    Malformed(&'static str),
    /// Nobody with this issuer is known.
    UnknownIssuer(String),
    /// No key of the provider has signed it.
    BadSignature,
    /// It is meant for somebody else.
    WrongAudience,
    /// It is not valid yet.
    NotYet,
    /// It is no longer valid.
    Expired {
        /// The time, in seconds since 1970.
        now: u64,
        /// When it ended.
        end: u64,
    },
}

/// Checks a token. `provider` finds who is known by the issuer that the token names.
///
/// # Errors
/// Says why it is refused.
pub fn verify(
    token: &str,
    now: SystemTime,
    provider: impl Fn(&str) -> Option<Provider>,
) -> Result<(Provider, Claims), TokenError> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("it has no signature"))?;
    let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed("it has no payload"))?;
    let header = json(header)?;
    // The algorithm is fixed here: a token that chooses its own could choose none.
    if header["alg"] != "RS256" {
        return Err(TokenError::Malformed("its algorithm is not RS256"));
    }
    let claims = claims(&json(payload)?)?;
    let provider = provider(&claims.issuer).ok_or_else(|| TokenError::UnknownIssuer(claims.issuer.clone()))?;
    let signature = decode(signature)?;
    if !provider.keys.iter().any(|key| key.verifies(message.as_bytes(), &signature)) {
        return Err(TokenError::BadSignature);
    }
    if !provider.audiences.contains(&claims.audience) {
        return Err(TokenError::WrongAudience);
    }
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now < claims.not_before {
        return Err(TokenError::NotYet);
    }
    if now >= claims.expires {
        return Err(TokenError::Expired { now, end: claims.expires });
    }
    Ok((provider, claims))
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed("a part is not base64url"))
}

fn json(part: &str) -> Result<Value, TokenError> {
    serde_json::from_slice(&decode(part)?).map_err(|_| TokenError::Malformed("a part is not JSON"))
}

fn claims(payload: &Value) -> Result<Claims, TokenError> {
    let text = |name: &str| payload[name].as_str().map(str::to_owned);
    let audience = match &payload["aud"] {
        Value::String(text) => Some(text.clone()),
        // With several, OpenID Connect wants `azp` to say which one counts, and this reader does not know it.
        Value::Array(list) => match list.as_slice() {
            [Value::String(text)] => Some(text.clone()),
            _ => return Err(TokenError::Malformed("it has several audiences")),
        },
        _ => None,
    };
    for claim in ["azp", "https://aws.amazon.com/tags", "https://aws.amazon.com/source_identity"] {
        if !payload[claim].is_null() {
            return Err(TokenError::Malformed("it has a claim that is not modelled here"));
        }
    }
    Ok(Claims {
        issuer: text("iss").ok_or(TokenError::Malformed("it names no issuer"))?,
        subject: text("sub").ok_or(TokenError::Malformed("it names no subject"))?,
        audience: audience.ok_or(TokenError::Malformed("it names no audience"))?,
        expires: payload["exp"].as_u64().ok_or(TokenError::Malformed("it has no end"))?,
        not_before: payload["nbf"].as_u64().unwrap_or(0),
    })
}
