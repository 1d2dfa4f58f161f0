//! The filters that bindings add to the template engine, and the values it computes with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value as Computed};

use crate::domain::render::encoding::{decode_base64, encode_base64};
use crate::domain::render::key::TargetKey;
use crate::domain::render::template::error::TemplateFault;
use crate::domain::value::{Buffer, Value};

/// How many bytes the engine's own accounting buys with one unit of fuel.
const BYTES_PER_FUEL: u64 = 64;

pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_filter("b64encode", b64encode);
    environment.add_filter("b64decode", b64decode);
    environment.add_filter("urlencode", urlencode);
    environment.add_filter("tojson", tojson);
    environment.add_filter("dotenv", dotenv);
}

/// A value that is not UTF-8 text. It can be passed around and given to `b64encode`; the first time it is made text
/// in any other way, that is noted, since the engine has no way to stop there.
pub(super) struct Binary {
    value: Value,
    /// The mapped key, if the value has one.
    name: Option<TargetKey>,
    misused: Misuse,
}

/// The record of a binary value that was used as text.
#[derive(Clone, Default)]
pub(super) struct Misuse(Arc<OnceLock<Option<TargetKey>>>);

impl Misuse {
    pub(super) fn fault(&self) -> Option<TemplateFault> {
        self.0.get().map(|name| TemplateFault::Binary { name: name.clone() })
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.misused.0.get_or_init(|| self.name.clone());
        Ok(())
    }
}

impl Object for Binary {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The mapped keys as the engine's values.
pub(super) fn computed(keys: &BTreeMap<TargetKey, Value>, misused: &Misuse) -> BTreeMap<String, Computed> {
    let value = |name: &TargetKey, value: &Value| {
        if let Ok(text) = std::str::from_utf8(value.expose()) {
            return Computed::from(text);
        }
        let (value, name) = (value.clone(), Some(name.clone()));
        Computed::from_object(Binary { value, name, misused: misused.clone() })
    };
    keys.iter().map(|(key, bytes)| (key.to_string(), value(key, bytes))).collect()
}

fn fail<T>(fault: TemplateFault) -> Result<T, Error> {
    Err(Error::from(ErrorKind::InvalidOperation).with_source(fault))
}

/// The text of a string, number or boolean.
fn text(value: &Computed) -> Result<Computed, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.clone()),
        ValueKind::Number | ValueKind::Bool => Ok(Computed::from(value.to_string())),
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        _ => fail(match value.downcast_object_ref::<Binary>() {
            Some(binary) => TemplateFault::Binary { name: binary.name.clone() },
            None => TemplateFault::NotText,
        }),
    }
}

fn utf8(value: &Value) -> Result<Computed, Error> {
    match std::str::from_utf8(value.expose()) {
        Ok(text) => Ok(Computed::from(text)),
        Err(_) => fail(TemplateFault::NotText),
    }
}

fn b64encode(value: &Computed) -> Result<Computed, Error> {
    if let Some(binary) = value.downcast_object_ref::<Binary>() {
        return utf8(&encode_base64(binary.value.expose()));
    }
    utf8(&encode_base64(text(value)?.as_str().unwrap_or_default().as_bytes()))
}

fn b64decode(value: &Computed) -> Result<Computed, Error> {
    match decode_base64(text(value)?.as_str().unwrap_or_default().as_bytes()) {
        Ok(decoded) => match std::str::from_utf8(decoded.expose()) {
            Ok(text) => Ok(Computed::from(text)),
            Err(_) => fail(TemplateFault::DecodedBinary),
        },
        Err(_) => fail(TemplateFault::NotBase64),
    }
}

fn urlencode(value: &Computed) -> Result<Computed, Error> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let value = text(value)?;
    let mut encoded = Buffer::default();
    for byte in value.as_str().unwrap_or_default().bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.extend(&[byte]);
        } else {
            encoded.extend(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    utf8(&encoded.into())
}

fn tojson(state: &State, value: &Computed) -> Result<Computed, Error> {
    let mut json = Buffer::default();
    write_json(state, value, &mut json)?;
    utf8(&json.into())
}

fn write_json(state: &State, value: &Computed, json: &mut Buffer) -> Result<(), Error> {
    if value.kind() == ValueKind::None {
        json.extend(b"null");
        return Ok(());
    }
    if value.kind() == ValueKind::Bool {
        json.extend(if value.is_true() { b"true" } else { b"false" });
        return Ok(());
    }
    if value.kind() == ValueKind::Map {
        json.extend(b"{");
        for (index, key) in value.try_iter()?.enumerate() {
            if index > 0 {
                json.extend(b",");
            }
            write_json(state, &Computed::from(key.to_string()), json)?;
            json.extend(b":");
            write_json(state, &value.get_item(&key)?, json)?;
        }
        json.extend(b"}");
        return Ok(());
    }
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        json.extend(b"[");
        for (index, item) in value.try_iter()?.enumerate() {
            if index > 0 {
                json.extend(b",");
            }
            write_json(state, &item, json)?;
        }
        json.extend(b"]");
        return Ok(());
    }
    let value_text = text(value)?;
    let value_text = value_text.as_str().unwrap_or_default();
    state.consume_fuel(value_text.len() as u64 / BYTES_PER_FUEL + 1)?;
    if value.kind() == ValueKind::Number {
        json.extend(value_text.as_bytes());
        return Ok(());
    }
    json.push('"');
    for c in value_text.chars() {
        match c {
            '"' => json.extend(b"\\\""),
            '\\' => json.extend(b"\\\\"),
            '\n' => json.extend(b"\\n"),
            '\r' => json.extend(b"\\r"),
            '\t' => json.extend(b"\\t"),
            c if c < ' ' => json.extend(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => json.push(c),
        }
    }
    json.push('"');
    Ok(())
}

fn dotenv(state: &State, value: &Computed) -> Result<Computed, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if value.kind() != ValueKind::Map {
        return fail(TemplateFault::DotenvOfOther);
    }
    let mut lines = Buffer::default();
    // The engine keeps maps ordered by key.
    for name in value.try_iter()? {
        let name_text = name.to_string();
        let is_variable = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name_text.chars().all(is_variable) || name_text.starts_with(|c: char| c.is_ascii_digit()) {
            return fail(TemplateFault::DotenvName { name: name_text });
        }
        let content = text(&value.get_item(&name)?)?;
        let content = content.as_str().unwrap_or_default();
        state.consume_fuel(content.len() as u64 / BYTES_PER_FUEL + 1)?;
        if content.contains('\0') {
            return fail(TemplateFault::DotenvNul { name: name_text });
        }
        lines.extend(name_text.as_bytes());
        lines.push('=');
        write_quoted(content, &mut lines);
        lines.push('\n');
    }
    utf8(&lines.into())
}

/// Quotes a value for a `.env` file. Between single quotes every parser takes everything literally, but for a
/// single quote, and (in some) a backslash before another or before the closing quote. Values with those go between
/// double quotes, with the escapes of a POSIX shell.
fn write_quoted(content: &str, lines: &mut Buffer) {
    if !content.contains('\'') && !content.contains("\\\\") && !content.ends_with('\\') {
        lines.push('\'');
        lines.extend(content.as_bytes());
        lines.push('\'');
        return;
    }
    lines.push('"');
    for c in content.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            lines.push('\\');
        }
        lines.push(c);
    }
    lines.push('"');
}
