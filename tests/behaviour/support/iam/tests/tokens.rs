//! Tokens of web identities, against the example of RFC 7515 and made with its key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use ring::signature::RSA_PKCS1_SHA256;
use serde_json::{Value, json};

use crate::iam::token::{Claims, Provider, PublicKey, TokenError, verify};

/// The key of RFC 7515, appendix A.2, which protects nothing.
const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const E: &str = "AQAB";
const D: &str = "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ";
const P: &str = "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc";
const Q: &str = "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc";
const DP: &str = "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0";
const DQ: &str = "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU";
const QI: &str = "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U";
/// The token of the same appendix.
const EXAMPLE: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

pub const ISSUER: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
pub const PREFIX: &str = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
/// The time at which these tests take place.
pub const NOW: u64 = 1_800_000_000;

pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn bytes(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// One element of DER.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut length = content.len().to_be_bytes().to_vec();
    length.retain(|byte| *byte != 0);
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(u8::try_from(content.len()).unwrap());
    } else {
        out.push(0x80 | u8::try_from(length.len()).unwrap());
        out.extend(length);
    }
    out.extend(content);
    out
}

/// The public key in the form in which the test cluster keeps its own.
fn pem() -> String {
    let integer = |text: &str| {
        let mut bytes = bytes(text);
        if bytes[0] >= 0x80 {
            bytes.insert(0, 0);
        }
        der(0x02, &bytes)
    };
    let key = der(0x30, &[integer(N), integer(E)].concat());
    // rsaEncryption, without parameters.
    let algorithm = der(0x30, &[&[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1][..], &[0x05, 0]].concat());
    let info = der(0x30, &[algorithm, der(0x03, &[&[0], key.as_slice()].concat())].concat());
    let text = STANDARD.encode(info);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// Signs a token with any header.
fn signed(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let public_key = PublicKeyComponents { n: bytes(N), e: bytes(E) };
    let components = KeyPairComponents {
        public_key,
        d: bytes(D),
        p: bytes(P),
        q: bytes(Q),
        dP: bytes(DP),
        dQ: bytes(DQ),
        qInv: bytes(QI),
    };
    let pair = KeyPair::from_components(&components).unwrap();
    let mut signature = vec![0; pair.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The claims of a ServiceAccount's token, some changed; `null` takes one out.
fn claims(subject: &str, change: &Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "sub": subject, "aud": ["sts.amazonaws.com"], "exp": NOW + 600, "nbf": NOW,
        "iat": NOW, "kubernetes.io": {"namespace": "autorepost-production"}});
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// A token as the API server would issue it, some claims changed.
pub fn token(subject: &str, change: &Value) -> String {
    signed(&json!({"alg": "RS256", "kid": "any"}), &claims(subject, change))
}

pub fn provider(account: &str) -> Provider {
    Provider {
        arn: format!("arn:aws:iam::{account}:oidc-provider/{PREFIX}"),
        issuer: ISSUER.to_owned(),
        audiences: vec!["sts.amazonaws.com".to_owned()],
        keys: vec![PublicKey::from_pem(&pem())],
    }
}

fn check(token: &str) -> Result<Claims, TokenError> {
    let own = provider("123456789012");
    verify(token, now(), |issuer| (issuer == own.issuer).then(|| own.clone())).map(|(_, claims)| claims)
}

const WORKER: &str = "system:serviceaccount:autorepost-production:worker";

#[test]
fn the_example_of_rfc_7515_is_signed_by_its_key() {
    let (message, signature) = EXAMPLE.rsplit_once('.').unwrap();
    let key = PublicKey::from_pem(&pem());
    assert!(key.verifies(message.as_bytes(), &bytes(signature)));
    assert!(!key.verifies(&message.as_bytes()[1..], &bytes(signature)));
    // Its claims are not those that AWS asks for.
    assert_eq!(check(EXAMPLE), Err(TokenError::Malformed("it names no subject")));
}

#[test]
fn a_token_of_a_service_account_is_taken_until_its_end() {
    let claims = check(&token(WORKER, &json!({}))).unwrap();
    assert_eq!((claims.issuer.as_str(), claims.subject.as_str()), (ISSUER, WORKER));
    assert_eq!(claims.audience, "sts.amazonaws.com");
    assert!(check(&token(WORKER, &json!({"aud": "sts.amazonaws.com"}))).is_ok());
    assert!(check(&token(WORKER, &json!({"exp": NOW + 1}))).is_ok());
    assert_eq!(check(&token(WORKER, &json!({"exp": NOW}))), Err(TokenError::Expired { now: NOW, end: NOW }));
    assert_eq!(check(&token(WORKER, &json!({"nbf": NOW + 1}))), Err(TokenError::NotYet));
}

#[test]
fn a_token_for_somebody_else_or_by_somebody_else_is_refused() {
    for (change, expected) in [
        (json!({"aud": ["https://kubernetes.default.svc"]}), TokenError::WrongAudience),
        (json!({"aud": ["sts.amazonaws.com", "other"]}), TokenError::Malformed("it has several audiences")),
        (json!({"aud": []}), TokenError::Malformed("it has several audiences")),
        (json!({"aud": null}), TokenError::Malformed("it names no audience")),
        (json!({"sub": null}), TokenError::Malformed("it names no subject")),
        (json!({"exp": null}), TokenError::Malformed("it has no end")),
        (json!({"exp": "never"}), TokenError::Malformed("it has no end")),
        (json!({"iss": "https://example.com"}), TokenError::UnknownIssuer("https://example.com".to_owned())),
        (json!({"iss": format!("{ISSUER}/")}), TokenError::UnknownIssuer(format!("{ISSUER}/"))),
        (json!({"azp": "x"}), TokenError::Malformed("it has a claim that is not modelled here")),
        (json!({"https://aws.amazon.com/tags": {}}), TokenError::Malformed("it has a claim that is not modelled here")),
    ] {
        assert_eq!(check(&token(WORKER, &change)), Err(expected), "{change}");
    }
}

#[test]
fn a_token_that_was_changed_or_not_signed_is_refused() {
    let token = token(WORKER, &json!({}));
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let other = encode(&claims("system:serviceaccount:kube-system:root", &json!({})));
    let none = encode(&json!({"alg": "none"}));
    for (forged, expected) in [
        (format!("{}.{other}.{}", parts[0], parts[2]), TokenError::BadSignature),
        (format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 256])), TokenError::BadSignature),
        (format!("{}.{}.", parts[0], parts[1]), TokenError::BadSignature),
        (format!("{none}.{}.", parts[1]), TokenError::Malformed("its algorithm is not RS256")),
        (format!("{none}.{}.{}", parts[1], parts[2]), TokenError::Malformed("its algorithm is not RS256")),
        (
            signed(&json!({"alg": "HS256"}), &claims(WORKER, &json!({}))),
            TokenError::Malformed("its algorithm is not RS256"),
        ),
        (format!("{}.{}", parts[0], parts[1]), TokenError::Malformed("it has no payload")),
        ("x".to_owned(), TokenError::Malformed("it has no signature")),
        (String::new(), TokenError::Malformed("it has no signature")),
        ("!.!.!".to_owned(), TokenError::Malformed("a part is not base64url")),
    ] {
        assert_eq!(check(&forged), Err(expected), "{forged}");
    }
}
