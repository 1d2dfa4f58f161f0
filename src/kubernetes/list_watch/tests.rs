use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{ObjectList, WatchEvent};
use kube::core::Status;
use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::{Heard, ListWatch, WatchError, WatchEvents, WatchSource, pause_after};

/// What the API server does with the next request.
enum Answer {
    /// A page with these objects, and whether more follow.
    Page(&'static [&'static str], bool),
    /// A watch with these events, which ends after so many seconds (`None` = never).
    Watch(Vec<WatchEvent<ConfigMap>>, Option<u64>),
    Refuse(u16),
    Hang,
}

#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    async fn answer(&self, asked: String) -> Result<Answer, kube::Error> {
        self.asked.lock().unwrap().push(asked);
        let next = self.answers.lock().unwrap().pop_front();
        match next {
            Some(Answer::Refuse(code)) => {
                Err(kube::Error::Api(Box::new(Status { code, reason: "No".to_owned(), ..Status::default() })))
            }
            Some(Answer::Hang) | None => std::future::pending().await,
            Some(answer) => Ok(answer),
        }
    }
}

impl WatchSource<ConfigMap> for Scripted {
    async fn list(&self, page: Option<String>) -> Result<ObjectList<ConfigMap>, kube::Error> {
        let Answer::Page(names, more) = self.answer(format!("list {}", page.unwrap_or_default())).await? else {
            panic!("a watch is not what a list is answered with")
        };
        let items: Vec<_> = names.iter().map(|name| json!({"metadata": {"name": name}})).collect();
        let metadata = if more { json!({"continue": "more"}) } else { json!({"resourceVersion": "5"}) };
        let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items});
        Ok(serde_json::from_value(list).unwrap())
    }

    async fn watch(&self, version: &str) -> Result<WatchEvents<ConfigMap>, kube::Error> {
        let Answer::Watch(events, ends) = self.answer(format!("watch {version}")).await? else {
            panic!("a list is not what a watch is answered with")
        };
        let end = stream::once(async move {
            match ends {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        });
        Ok(stream::iter(events.into_iter().map(Ok)).chain(end.filter_map(|()| std::future::ready(None))).boxed())
    }
}

fn event(kind: &str, name: &str, version: &str) -> WatchEvent<ConfigMap> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": version, "annotations": {}}});
    serde_json::from_value(json!({"type": kind, "object": object})).unwrap()
}

async fn told(watch: &mut ListWatch<ConfigMap, Scripted>) -> String {
    match watch.next().await {
        Ok(Heard::Alive) => "alive".to_owned(),
        Ok(Heard::Event(Event::Init)) => "init".to_owned(),
        Ok(Heard::Event(Event::InitApply(object))) => format!("listed {}", object.name_any()),
        Ok(Heard::Event(Event::InitDone)) => "complete".to_owned(),
        Ok(Heard::Event(Event::Apply(object))) => format!("applied {}", object.name_any()),
        Ok(Heard::Event(Event::Delete(object))) => format!("deleted {}", object.name_any()),
        Err(error) => error.to_string(),
    }
}

async fn all_told(answers: Vec<Answer>, number: usize) -> (Vec<String>, Vec<String>, u64) {
    let (source, began) = (Scripted::new(answers), Instant::now());
    let mut watch = ListWatch::new(source.clone());
    let mut all = Vec::new();
    for _ in 0..number {
        all.push(told(&mut watch).await);
    }
    let asked = source.asked.lock().unwrap().clone();
    (all, asked, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_list_of_several_pages_and_a_watch_go_on_where_they_ended() {
    let events = vec![event("ADDED", "c", "6"), event("DELETED", "a", "7"), event("BOOKMARK", "", "9")];
    let answers = vec![
        Answer::Page(&["a"], true),
        Answer::Page(&["b"], true),
        Answer::Page(&[], false),
        Answer::Watch(events, Some(25)),
        Answer::Watch(vec![], Some(25)),
        Answer::Watch(vec![event("MODIFIED", "c", "10")], None),
    ];
    let (told, asked, _) = all_told(answers, 10).await;
    let expected = ["init", "listed a", "listed b", "complete", "applied c", "deleted a", "alive", "alive", "alive"];
    assert_eq!(told[..9], expected);
    assert_eq!(told[9], "applied c");
    assert_eq!(asked, ["list ", "list more", "list more", "watch 5", "watch 9", "watch 9"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_never_answered_is_begun_anew_within_a_minute() {
    let answers = vec![
        Answer::Page(&[], false),
        Answer::Watch(vec![], None),
        Answer::Hang,
        Answer::Watch(vec![event("MODIFIED", "c", "10")], None),
    ];
    let (told, asked, seconds) = all_told(answers, 5).await;
    assert_eq!(told, ["init", "complete", "the API server fell silent", "the connection failed", "applied c"]);
    assert_eq!(asked, ["list ", "watch 5", "watch 5", "watch 5"]);
    assert!(seconds < 55, "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_in_the_middle_is_begun_anew() {
    let answers = vec![Answer::Page(&["a"], true), Answer::Hang, Answer::Page(&["a"], false)];
    let (told, asked, seconds) = all_told(answers, 6).await;
    assert_eq!(told, ["init", "listed a", "the list could not be read", "init", "listed a", "complete"]);
    assert_eq!(asked, ["list ", "list more", "list "]);
    assert!(seconds < 35, "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_for_ten_minutes_is_asked_for_with_growing_pauses() {
    let (source, began) = (Scripted::new((0..100).map(|_| Answer::Refuse(500))), Instant::now());
    let mut watch = ListWatch::new(source.clone());
    let mut pauses = Vec::new();
    while began.elapsed() < Duration::from_secs(600) {
        let last = Instant::now();
        match watch.next().await {
            Ok(heard) => assert!(!heard.is_current()),
            Err(WatchError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
        pauses.extend(Some(last.elapsed()).filter(|pause| !pause.is_zero()));
    }
    let asked = source.asked.lock().unwrap().len();
    assert!((20..40).contains(&asked), "asked {asked} times");
    assert!(pauses.iter().max() > Some(&Duration::from_secs(20)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_the_api_server_forgot_leads_to_a_list() {
    let expired = Box::new(Status { code: 410, reason: "Expired".to_owned(), ..Status::default() });
    let answers = vec![
        Answer::Page(&["a"], false),
        Answer::Watch(vec![WatchEvent::Error(expired)], None),
        Answer::Page(&["b"], false),
        Answer::Refuse(410),
        Answer::Page(&["c"], false),
    ];
    let (told, _, _) = all_told(answers, 11).await;
    let refused = "the API server answered 410 Expired";
    let expected = ["init", "listed a", "complete", refused, "init", "listed b", "complete"];
    assert_eq!(told[..7], expected);
    assert_eq!(told[7..], ["the API server answered 410 No", "init", "listed c", "complete"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_forbidden_is_not_hidden_by_lists() {
    let mut answers = vec![Answer::Page(&[], false)];
    answers.extend((0..5).map(|_| Answer::Refuse(403)));
    let (told, asked, _) = all_told(answers, 7).await;
    let refused = "the API server answered 403 No";
    assert_eq!(told, ["init", "complete", refused, refused, refused, refused, refused]);
    assert_eq!(asked, ["list ", "watch 5", "watch 5", "watch 5", "watch 5", "watch 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_again_and_again_is_no_success() {
    let mut answers = vec![Answer::Page(&[], false)];
    answers.extend((0..3).map(|_| Answer::Watch(vec![], Some(0))));
    answers.push(Answer::Page(&[], false));
    let (told, asked, seconds) = all_told(answers, 7).await;
    let failed = "the connection failed";
    assert_eq!(told, ["init", "complete", failed, failed, failed, "init", "complete"]);
    assert_eq!(asked, ["list ", "watch 5", "watch 5", "watch 5", "list "]);
    assert!(seconds >= 4, "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_kept_back_is_listed_within_a_minute_and_a_long_list_is_spared() {
    let ends = || Answer::Watch(vec![], Some(25));
    let first = [Answer::Page(&["a"], true), Answer::Page(&["b"], false), ends(), ends()];
    let answers = first.into_iter().chain([Answer::Page(&["a", "c"], false)]).collect();
    let (told, asked, seconds) = all_told(answers, 9).await;
    assert_eq!(told, ["init", "listed a", "listed b", "complete", "alive", "alive", "init", "listed a", "listed c"]);
    assert_eq!(asked, ["list ", "list more", "watch 5", "watch 5", "list "]);
    assert!(seconds <= 50, "{seconds}");

    let mut answers = vec![Answer::Page(&["a"], true), Answer::Page(&["b"], true), Answer::Page(&["c"], false)];
    answers.extend((0..24).map(|_| ends()));
    answers.push(Answer::Page(&[], false));
    let (told, _, seconds) = all_told(answers, 31).await;
    assert_eq!(told[5..], [vec!["alive"; 24], vec!["init", "complete"]].concat());
    assert_eq!(seconds, 600);
}

#[tokio::test(start_paused = true)]
async fn an_old_state_that_is_told_again_is_passed_over_and_a_list_tells_what_is_true() {
    let told_again = vec![event("MODIFIED", "a", "6"), event("MODIFIED", "b", "7"), event("MODIFIED", "a", "6")];
    let answers = vec![Answer::Page(&["a"], false), Answer::Watch(told_again, Some(25)), Answer::Page(&["a"], false)];
    let (told, _, _) = all_told(answers, 8).await;
    assert_eq!(told, ["init", "listed a", "complete", "applied a", "applied b", "alive", "alive", "init"]);
}

#[test]
fn pauses_grow_to_half_a_minute() {
    let seconds: Vec<u64> = [1, 2, 3, 4, 5, 6, 40].map(|failures| pause_after(failures, 0.0).as_secs()).to_vec();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    assert!(pause_after(6, 1.0) > Duration::from_secs(20));
}
