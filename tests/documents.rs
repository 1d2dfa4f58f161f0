//! The documents of the repository lead somewhere: each relative link to a file, each anchor to a heading, and each path
//! in backticks to what it names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A path in backticks that begins so is a path of this repository.
const FOLDERS: [&str; 7] = ["src/", "tests/", "docs/", "deploy/", "charts/", "crds/", "examples/"];

/// The files of a repository by path, with the text of documents.
struct Repository(BTreeMap<String, String>);

impl Repository {
    fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root.join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{folder}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    // What was built is no part of the repository.
                    if ![".git", "target"].contains(&path.as_str()) {
                        folders.push(format!("{path}/"));
                    }
                } else {
                    let is_document = is_document(&path);
                    files.insert(
                        path,
                        if is_document { fs::read_to_string(entry.path()).unwrap() } else { String::new() },
                    );
                }
            }
        }
        Self(files)
    }

    /// The documents by path.
    fn documents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(path, _)| is_document(path)).map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether there is such a file or folder.
    fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty()
            || self.0.contains_key(path)
            || self.0.keys().any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    /// What leads nowhere in a document.
    fn faults(&self, document: &str) -> Vec<String> {
        let Parts { links, codes } = parts(&self.0[document]);
        let links =
            links.iter().filter_map(|link| Some(format!("{document}: ({link}) {}", self.broken(document, link)?)));
        let codes = codes.iter().filter(|code| is_path(code) && !self.has(code));
        links.chain(codes.map(|code| format!("{document}: `{code}` does not exist"))).collect()
    }

    /// Why a link leads nowhere.
    fn broken(&self, document: &str, link: &str) -> Option<&'static str> {
        if link.contains("://") || link.starts_with("mailto:") {
            return None;
        }
        let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
        let path = if path.is_empty() { Some(document.to_owned()) } else { resolve(document, path) };
        let Some(path) = path.filter(|path| self.has(path)) else { return Some("does not exist") };
        match (anchor, self.0.get(&path).filter(|_| is_document(&path))) {
            (None, _) => None,
            (Some(_), None) => Some("is no document, so it has no headings"),
            (Some(anchor), Some(text)) => (!anchors(text).contains(anchor)).then_some("has no such heading"),
        }
    }
}

fn is_document(path: &str) -> bool {
    has_extension(path, "md")
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|of_path| of_path == extension)
}

/// Whether code in backticks names a file or folder of the repository. So does a short form such as `binding/plan.rs`,
/// which does not exist: a document gives the whole path.
fn is_path(code: &str) -> bool {
    let is_plain = code.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let is_source = has_extension(code, "rs") && code.contains('/');
    is_plain && (is_source || FOLDERS.iter().any(|folder| code.starts_with(folder)))
}

/// The path from the root that a relative link of a document means. `None` outside the repository.
fn resolve(document: &str, link: &str) -> Option<String> {
    let mut path: Vec<&str> = document.split('/').collect();
    path.pop();
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => drop(path.pop()?),
            part => path.push(part),
        }
    }
    Some(path.join("/"))
}

/// The lines of a document, without blocks of code.
fn prose(document: &str) -> Vec<&str> {
    let mut fence = None;
    let mut lines = Vec::new();
    for line in document.lines() {
        let marker = ["```", "~~~"].into_iter().find(|marker| line.trim_start().starts_with(marker));
        match (fence, marker) {
            (None, None) => lines.push(line),
            (None, Some(_)) => fence = marker,
            (Some(_), _) if fence == marker => fence = None,
            (Some(_), _) => {}
        }
    }
    lines
}

/// The anchors that GitHub gives the headings of a document.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for line in prose(document) {
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        if (1..=6).contains(&level) && text.starts_with(' ') {
            let slug = slug(text.trim());
            let time = times.entry(slug.clone()).and_modify(|time| *time += 1).or_default();
            anchors.insert(if *time == 0 { slug } else { format!("{slug}-{time}") });
        }
    }
    anchors
}

/// Lower case, hyphens for spaces, and of all else only letters, digits, hyphens and underscores.
fn slug(heading: &str) -> String {
    let mut text = heading.to_owned();
    // Of a link in a heading the text counts.
    while let Some(end) = text.find("](") {
        let Some(length) = text[end..].find(')') else { break };
        text.replace_range(end..=end + length, "");
    }
    let kept = text.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[derive(Debug, Default, PartialEq)]
struct Parts {
    /// The targets of links.
    links: Vec<String>,
    /// What stands in backticks.
    codes: Vec<String>,
}

fn parts(document: &str) -> Parts {
    let mut parts = Parts::default();
    // Backticks and links go over lines, but not over paragraphs.
    for paragraph in prose(document).split(|line| line.trim().is_empty()) {
        let text = without_code(&paragraph.join("\n"), &mut parts.codes);
        for (start, _) in text.match_indices("](") {
            let target = &text[start + 2..];
            let target = &target[..target.find(')').unwrap_or(target.len())];
            // A title may follow.
            parts.links.extend(target.split_whitespace().next().map(|link| link.trim_matches(['<', '>']).to_owned()));
        }
        for line in text.lines().filter(|line| line.starts_with('[')) {
            parts.links.extend(line.split_once("]: ").map(|(_, link)| link.trim().to_owned()));
        }
    }
    parts
}

/// A paragraph without what stands in backticks, which is added to `codes`.
fn without_code(paragraph: &str, codes: &mut Vec<String>) -> String {
    let (mut text, mut rest) = (String::new(), paragraph);
    while let Some(start) = rest.find('`') {
        let opened = &rest[start..];
        let code = opened.trim_start_matches('`');
        let ticks = &opened[..opened.len() - code.len()];
        text.push_str(&rest[..start]);
        let end = code
            .match_indices(ticks)
            .map(|(end, _)| end)
            .find(|end| !code[..*end].ends_with('`') && !code[end + ticks.len()..].starts_with('`'));
        rest = match end {
            Some(end) => {
                codes.push(code[..end].to_owned());
                &code[end + ticks.len()..]
            }
            None => code,
        };
    }
    text + rest
}

#[test]
fn every_link_and_every_path_of_the_documents_leads_somewhere() {
    let repository = Repository::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    let documents: Vec<&str> = repository.documents().map(|(path, _)| path).collect();
    for document in ["README.md", "docs/install.md", "deploy/aws/README.md", "tests/standin/README.md"] {
        assert!(documents.contains(&document), "{document} is not found, but {documents:?}");
    }
    let links: usize = repository.documents().map(|(_, text)| parts(text).links.len()).sum();
    assert!(links > 200, "only {links} links are found");
    let faults: Vec<String> = documents.iter().flat_map(|document| repository.faults(document)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn what_leads_nowhere_is_found() {
    let document = "# A page\n\
        [file](../src/lib.rs), [folder](../src), [own](#a-page), [heading](other.md#two-words-1 \"title\"),\n\
        [far](https://example.org/gone.md#gone), [`src/lib.rs`](../src/lib.rs), `src/lib.rs`, `cargo test src/gone.rs`.\n\n\
        [no file](gone.md), [no\nheading](other.md#three), [no own heading](#gone), [outside](../../x.md),\n\
        [no document](../src/lib.rs#L1), `src/gone.rs`, `binding/plan.rs`, ``tests/gone/``, a ` alone.\n\n\
        ```sh\n# no heading\n[no link](gone.md) `src/gone.rs`\n```\n\n[no code](#no-heading)\n\n[reference]: gone.md\n";
    let files = [("docs/page.md", document), ("docs/other.md", "## Two *words*\n## Two `words`\n"), ("src/lib.rs", "")];
    let repository = Repository(files.map(|(path, text)| (path.to_owned(), text.to_owned())).into());
    let expected = [
        "(gone.md) does not exist",
        "(other.md#three) has no such heading",
        "(#gone) has no such heading",
        "(../../x.md) does not exist",
        "(../src/lib.rs#L1) is no document, so it has no headings",
        "(#no-heading) has no such heading",
        "(gone.md) does not exist",
        "`src/gone.rs` does not exist",
        "`binding/plan.rs` does not exist",
        "`tests/gone/` does not exist",
    ];
    assert_eq!(repository.faults("docs/page.md"), expected.map(|fault| format!("docs/page.md: {fault}")));
}

#[test]
fn anchors_are_as_github_makes_them() {
    for (heading, anchor) in [
        ("If somebody takes over …", "if-somebody-takes-over-"),
        ("What `--concurrency` bounds, and why", "what---concurrency-bounds-and-why"),
        ("A [link](other.md#part) and snake_case", "a-link-and-snake_case"),
        ("Größe 2", "größe-2"),
    ] {
        assert_eq!(slug(heading), anchor);
    }
}
