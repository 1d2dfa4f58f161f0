//! The parameters of a call, held to the bounds of the API's model.

use serde_json::Value;

use super::refusal::Refusal;
use super::secret::Content;

/// The body of a call.
pub struct Parameters<'a>(pub &'a Value);

impl<'a> Parameters<'a> {
    /// A text between these lengths, if it is given.
    pub fn text(&self, name: &str, least: usize, most: usize) -> Result<Option<&'a str>, Refusal> {
        match &self.0[name] {
            Value::Null => Ok(None),
            Value::String(text) if text.len() < least => {
                Err(Refusal::constraint(name, &format!("have length greater than or equal to {least}")))
            }
            Value::String(text) if text.len() > most => {
                Err(Refusal::constraint(name, &format!("have length less than or equal to {most}")))
            }
            Value::String(text) => Ok(Some(text)),
            _ => Err(wrong_type(name)),
        }
    }

    /// `SecretId`, which must be there.
    pub fn secret(&self) -> Result<&'a str, Refusal> {
        self.text("SecretId", 1, 2048)?.ok_or_else(|| Refusal::constraint("SecretId", "not be null"))
    }

    /// The id of a version under any of its names.
    pub fn version(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        self.text(name, 32, 64)
    }

    /// `ClientRequestToken`. SDKs make one up where the caller gives none, so that only raw calls lack it.
    pub fn token(&self) -> Result<&'a str, Refusal> {
        let missing = "You must provide a ClientRequestToken value. We recommend a UUID-type value.";
        self.version("ClientRequestToken")?.ok_or_else(|| Refusal::invalid_request(missing))
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match &self.0[name] {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            _ => Err(wrong_type(name)),
        }
    }

    /// A whole number, if it is given.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        match &self.0[name] {
            Value::Null => Ok(None),
            number => number.as_i64().map(Some).ok_or_else(|| wrong_type(name)),
        }
    }

    /// `MaxResults`, if it is given.
    pub fn page_size(&self, most: usize) -> Result<Option<usize>, Refusal> {
        let Some(size) = self.number("MaxResults")? else { return Ok(None) };
        match usize::try_from(size) {
            Ok(size) if (1..=most).contains(&size) => Ok(Some(size)),
            Ok(0) | Err(_) => Err(Refusal::constraint("MaxResults", "have value greater than or equal to 1")),
            Ok(_) => Err(Refusal::constraint("MaxResults", &format!("have value less than or equal to {most}"))),
        }
    }

    /// A list of texts, if it is given.
    pub fn list(&self, name: &str, most: usize, longest: usize) -> Result<Option<Vec<String>>, Refusal> {
        let list = match &self.0[name] {
            Value::Null => return Ok(None),
            Value::Array(list) => list,
            _ => return Err(wrong_type(name)),
        };
        if list.is_empty() {
            return Err(Refusal::constraint(name, "have length greater than or equal to 1"));
        }
        if list.len() > most {
            return Err(Refusal::constraint(name, &format!("have length less than or equal to {most}")));
        }
        let texts = list.iter().map(|item| item.as_str().ok_or_else(|| wrong_type(name)));
        let texts: Vec<String> = texts.map(|text| text.map(str::to_owned)).collect::<Result<_, _>>()?;
        if texts.iter().any(|text| text.is_empty() || text.len() > longest) {
            return Err(Refusal::constraint(name, &format!("hold texts of 1 to {longest} characters")));
        }
        Ok(Some(texts))
    }

    /// `SecretString` or `SecretBinary`, if one is given.
    pub fn content(&self) -> Result<Option<Content>, Refusal> {
        use base64::Engine as _;
        const MOST: usize = 65_536;
        let text = self.text("SecretString", 1, MOST)?;
        let binary = self.text("SecretBinary", 1, usize::MAX)?;
        if let Some(binary) = binary {
            let bytes = base64::engine::general_purpose::STANDARD.decode(binary);
            if bytes.map_err(|_| wrong_type("SecretBinary"))?.len() > MOST {
                return Err(Refusal::constraint("SecretBinary", "have length less than or equal to 65536"));
            }
        }
        match (text, binary) {
            (Some(_), Some(_)) => Err(Refusal::invalid_parameter(
                "You can't specify both a binary secret value and a string secret value in the same secret.",
            )),
            (Some(text), None) => Ok(Some(Content::Text(text.to_owned()))),
            (None, Some(binary)) => Ok(Some(Content::Binary(binary.to_owned()))),
            (None, None) => Ok(None),
        }
    }

    /// `Tags` as pairs.
    pub fn tags(&self) -> Vec<(String, String)> {
        let tags = self.0["Tags"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        tags.iter().map(|tag| (text(&tag["Key"]), text(&tag["Value"]))).collect()
    }
}

fn wrong_type(name: &str) -> Refusal {
    Refusal::of("SerializationException", format!("{name} is of another type"))
}
