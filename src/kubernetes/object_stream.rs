//! A list, read object by object as its bytes arrive: memory has one object at a time, however long the list is, and what
//! is made of an object is up to the caller.

use std::pin::pin;

use futures::AsyncBufReadExt as _;
use http::Request;
use kube::Client;
use kube::core::ListMeta;

/// The longest text of an object. The API server stores 1.5 MB of one, and control characters are longer as JSON.
const MAX_OBJECT: usize = 12 << 20;

/// The longest text of a list besides its objects.
const MAX_REST: usize = 1 << 20;

/// What a page is to have in bytes: the API server holds a page as a whole.
const PAGE_BYTES: usize = 8 << 20;

/// What was read of a list.
#[derive(Debug)]
pub(super) struct ReadPage {
    /// The metadata of the list.
    pub(super) metadata: ListMeta,
    /// The number of objects.
    pub(super) objects: usize,
    /// Their length in bytes.
    pub(super) bytes: usize,
}

/// Requests a list and calls `take` with the text of each object.
///
/// # Errors
/// Where the API server does not answer, or refuses, and where what it says is no list.
pub(super) async fn read_list(
    client: &Client,
    request: Request<Vec<u8>>,
    mut take: impl FnMut(&[u8]) + Send,
) -> Result<ReadPage, kube::Error> {
    let mut body = pin!(client.request_stream(request).await?);
    let (mut cutter, mut objects, mut bytes) = (Cutter::default(), 0, 0);
    loop {
        let read = body.fill_buf().await.map_err(kube::Error::ReadEvents)?;
        if read.is_empty() {
            break;
        }
        let length = read.len();
        cutter.feed(read, &mut |object| {
            objects += 1;
            bytes += object.len();
            take(object);
        })?;
        body.consume_unpin(length);
    }
    Ok(ReadPage { metadata: cutter.end()?, objects, bytes })
}

/// The objects of the next page, by the size of those of this one.
pub(super) fn next_limit(page: &ReadPage, largest: u32) -> u32 {
    let each = page.bytes.checked_div(page.objects).unwrap_or_default().max(1);
    u32::try_from(PAGE_BYTES / each).unwrap_or(largest).clamp(1, largest)
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Outside of the items.
    #[default]
    Rest,
    /// Among the items.
    Between,
    /// In an item.
    Object,
}

/// Cuts the text of a list into its objects.
#[derive(Debug, Default)]
struct Cutter {
    place: Place,
    depth: u32,
    in_text: bool,
    escaped: bool,
    /// The last text at the first level: the name of the field that follows.
    field: Vec<u8>,
    object: Vec<u8>,
    rest: Vec<u8>,
}

impl Cutter {
    /// Takes the next bytes.
    fn feed(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(), kube::Error> {
        let mut start = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let before = self.place;
            self.step(*byte);
            if self.place == before {
                continue;
            }
            // Brackets are of the rest, braces of the object.
            let end = if before == Place::Between { at } else { at + 1 };
            self.keep(before, bytes.get(start..end).unwrap_or_default())?;
            start = end;
            if before == Place::Object {
                take(&self.object);
                self.object.clear();
                self.object.shrink_to(1 << 16);
            }
        }
        self.keep(self.place, bytes.get(start..).unwrap_or_default())
    }

    fn step(&mut self, byte: u8) {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ if self.depth == 1 && self.field.len() < 16 => self.field.push(byte),
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_text = true;
                if self.depth == 1 {
                    self.field.clear();
                }
            }
            b'{' | b'[' => {
                if byte == b'[' && self.depth == 1 && self.field == b"items" {
                    self.place = Place::Between;
                } else if self.depth == 2 && self.place == Place::Between {
                    self.place = Place::Object;
                }
                self.depth = self.depth.saturating_add(1);
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                match (self.depth, self.place) {
                    (2, Place::Object) => self.place = Place::Between,
                    (1, Place::Between) => self.place = Place::Rest,
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn keep(&mut self, place: Place, bytes: &[u8]) -> Result<(), kube::Error> {
        let (kept, most) = match place {
            Place::Rest => (&mut self.rest, MAX_REST),
            Place::Between => return Ok(()),
            Place::Object => (&mut self.object, MAX_OBJECT),
        };
        if kept.len() + bytes.len() > most {
            return Err(kube::Error::ReadEvents(std::io::Error::other("an object of a list is too long")));
        }
        kept.extend_from_slice(bytes);
        Ok(())
    }

    /// The metadata of the list, at its end.
    fn end(self) -> Result<ListMeta, kube::Error> {
        #[derive(serde::Deserialize)]
        struct Rest {
            #[serde(default)]
            metadata: ListMeta,
        }
        serde_json::from_slice::<Rest>(&self.rest).map(|rest| rest.metadata).map_err(kube::Error::SerdeError)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn cut(text: &str, piece: usize) -> Result<(Vec<Value>, ListMeta), kube::Error> {
        let (mut cutter, mut objects) = (Cutter::default(), Vec::new());
        for bytes in text.as_bytes().chunks(piece) {
            cutter.feed(bytes, &mut |object| objects.push(serde_json::from_slice(object).unwrap()))?;
        }
        Ok((objects, cutter.end()?))
    }

    #[test]
    fn the_objects_of_a_list_are_cut_out_wherever_the_pieces_end() {
        let items = json!([
            {"metadata": {"name": "a", "annotations": {"items": "[{\\\"}]", "b": "\"]}"}}, "items": [[{}], {"x": []}]},
            {},
            {"spec": {"items": [1, 2, {"y": "{"}]}},
        ]);
        let list = json!({"kind": "List", "metadata": {"resourceVersion": "7", "continue": "t"}, "items": items});
        for text in [list.to_string(), serde_json::to_string_pretty(&list).unwrap()] {
            for piece in 1..text.len() {
                let (objects, metadata) = cut(&text, piece).unwrap();
                assert_eq!(Value::Array(objects), items);
                assert_eq!(
                    (metadata.resource_version.as_deref(), metadata.continue_.as_deref()),
                    (Some("7"), Some("t"))
                );
            }
        }
    }

    #[test]
    fn pages_of_large_objects_have_few_of_them() {
        let limit =
            |objects: usize, bytes: usize| next_limit(&ReadPage { metadata: ListMeta::default(), objects, bytes }, 250);
        assert_eq!(limit(0, 0), 250);
        assert_eq!(limit(25, 25 * 2_000), 250);
        assert_eq!(limit(25, 25 * 1_500_000), 5);
        assert_eq!(limit(1, 12 << 20), 1);
    }

    #[test]
    fn what_is_no_list_or_ends_too_early_fails() {
        for text in ["", "no", "{\"items\":[{}", "{\"metadata\":{},\"items\":[{}", "{\"metadata\":7,\"items\":[]}"] {
            assert!(cut(text, 3).is_err(), "{text}");
        }
        for text in ["{}", "{\"items\":null}", "{\"items\":[],\"metadata\":{}}"] {
            assert_eq!(cut(text, 2).unwrap().0, Vec::<Value>::new(), "{text}");
        }
    }

    #[test]
    fn an_object_that_is_too_long_fails_and_is_not_kept() {
        let mut cutter = Cutter::default();
        cutter.feed(b"{\"items\":[{\"a\":\"", &mut |_| {}).unwrap();
        let piece = vec![b'x'; 1 << 20];
        let fed = (0..20).map(|_| cutter.feed(&piece, &mut |_| {})).take_while(Result::is_ok).count();
        assert!(fed < 13 && cutter.object.len() <= MAX_OBJECT);
    }

    proptest! {
        #[test]
        fn texts_of_any_kind_do_not_confuse_it(texts in proptest::collection::vec("[\\PC\"\\\\{}\\[\\]]{0,12}", 0..6), piece in 1_usize..9) {
            let items: Vec<Value> = texts.iter().map(|text| json!({text.as_str(): text, "items": [text]})).collect();
            let list = json!({"items": items, "kind": "x", "metadata": {"resourceVersion": "1"}});
            prop_assert_eq!(cut(&list.to_string(), piece).unwrap().0, items);
        }
    }
}
