//! Listing, and describing.

use aws_sdk_secretsmanager::operation::list_secrets::builders::ListSecretsFluentBuilder;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, SecretListEntry};

use super::subject::{Row, Subject, code, verdict};

fn filter(values: &[String]) -> Filter {
    Filter::builder().key(FilterNameStringType::Name).set_values(Some(values.to_vec())).build()
}

/// A list of this row's secrets.
fn list(subject: &Subject) -> ListSecretsFluentBuilder {
    subject.aws.list_secrets().filters(filter(&[subject.name("")]))
}

/// The last parts of the names, in alphabetical order.
fn names(entries: &[SecretListEntry]) -> String {
    let mut names: Vec<&str> =
        entries.iter().filter_map(|entry| entry.name()).filter_map(|name| name.rsplit('/').next()).collect();
    names.sort_unstable();
    names.join(", ")
}

pub const ROWS: &[Row] = &[
    Row {
        name: "the filter name is a prefix and tells upper from lower case",
        page: "apireference/API_Filter.html",
        says: "name: Prefix match, case-sensitive.",
        documented: "app, apple",
        run: |subject| {
            Box::pin(async move {
                for name in ["app", "apple", "App", "my-app"] {
                    subject.create(name, "a").await;
                }
                let list = subject.aws.list_secrets().filters(filter(&[subject.name("app")])).send().await.unwrap();
                names(list.secret_list())
            })
        },
    },
    Row {
        name: "an exclamation mark negates a filter",
        page: "apireference/API_Filter.html",
        says: "You can prefix your search value with an exclamation mark (!) in order to perform negation filters.",
        documented: "other",
        run: |subject| {
            Box::pin(async move {
                for name in ["app", "apple", "other"] {
                    subject.create(name, "a").await;
                }
                let not = filter(&[format!("!{}", subject.name("app"))]);
                names(list(&subject).filters(not).send().await.unwrap().secret_list())
            })
        },
    },
    Row {
        name: "a list has 10 filters at most",
        page: "apireference/API_ListSecrets.html#API_ListSecrets_RequestSyntax",
        says: "Array Members: Maximum number of 10 items.",
        documented: "10: accepted; 11: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                let mut outcome = Vec::new();
                for count in [10, 11] {
                    let filters = vec![filter(&[subject.name("app")]); count];
                    let listed = subject.aws.list_secrets().set_filters(Some(filters)).send().await;
                    outcome.push(format!("{count}: {}", verdict(&listed)));
                }
                outcome.join("; ")
            })
        },
    },
    Row {
        name: "a page has 100 entries at most",
        page: "apireference/API_ListSecrets.html#API_ListSecrets_RequestSyntax",
        says: "MaxResults: Valid Range: Minimum value of 1. Maximum value of 100.",
        documented: "0: refused as invalid; 100: accepted; 101: refused as invalid",
        run: |subject| {
            Box::pin(async move {
                let mut outcome = Vec::new();
                for size in [0, 100, 101] {
                    outcome.push(format!("{size}: {}", verdict(&list(&subject).max_results(size).send().await)));
                }
                outcome.join("; ")
            })
        },
    },
    Row {
        name: "pages hold every secret once",
        page: "apireference/API_ListSecrets.html#API_ListSecrets_ResponseSyntax",
        says: "To get the next results, call ListSecrets again with the value from NextToken.",
        documented: "2 + 2 + 1: a, b, c, d, e",
        run: |subject| {
            Box::pin(async move {
                for name in ["a", "b", "c", "d", "e"] {
                    subject.create(name, "a").await;
                }
                let (mut all, mut sizes, mut token) = (Vec::new(), Vec::new(), None);
                loop {
                    let page = list(&subject).max_results(2).set_next_token(token).send().await.unwrap();
                    sizes.push(page.secret_list().len().to_string());
                    all.extend(page.secret_list.unwrap_or_default());
                    token = page.next_token;
                    if token.is_none() {
                        break format!("{}: {}", sizes.join(" + "), names(&all));
                    }
                }
            })
        },
    },
    Row {
        name: "a NextToken that was not given out is refused",
        page: "apireference/API_ListSecrets.html#API_ListSecrets_Errors",
        says: "InvalidNextTokenException: The NextToken value is invalid.",
        documented: "InvalidNextTokenException",
        run: |subject| Box::pin(async move { code(&list(&subject).next_token("nonsense").send().await) }),
    },
    Row {
        name: "an entry says which version has which labels, without those that have none",
        page: "apireference/API_SecretListEntry.html",
        says: "A version that does not have any SecretVersionStage is not included in this list.",
        documented: "2 versions; AWSCURRENT on the last",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                subject.put("app", "b").await;
                let last = subject.put("app", "c").await;
                let listed = list(&subject).send().await.unwrap();
                let versions = listed.secret_list()[0].secret_versions_to_stages().unwrap();
                let current =
                    versions.get(&last).is_some_and(|labels| labels.iter().any(|label| label == "AWSCURRENT"));
                format!("{} versions{}", versions.len(), if current { "; AWSCURRENT on the last" } else { "" })
            })
        },
    },
    Row {
        name: "an entry has ARN, name and dates, and no value",
        page: "apireference/API_SecretListEntry.html",
        says: "A structure that contains the details about a secret. It does not include the encrypted value.",
        documented: "ARN, Name, CreatedDate, LastChangedDate",
        run: |subject| {
            Box::pin(async move {
                let arn = subject.create("app", "a").await;
                let listed = list(&subject).send().await.unwrap();
                let entry = &listed.secret_list()[0];
                let has = [
                    ("ARN", entry.arn() == Some(arn.as_str())),
                    ("Name", entry.name() == Some(subject.name("app").as_str())),
                    ("CreatedDate", entry.created_date().is_some()),
                    ("LastChangedDate", entry.last_changed_date().is_some()),
                    ("DeletedDate", entry.deleted_date().is_some()),
                ];
                let has: Vec<&str> = has.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
                has.join(", ")
            })
        },
    },
    Row {
        name: "secrets that wait for their deletion are listed only where asked for",
        page: "apireference/API_ListSecrets.html#API_ListSecrets_RequestSyntax",
        says: "By default, secrets scheduled for deletion aren't included.",
        documented: "by default: app; IncludePlannedDeletion: app, gone, with DeletedDate: 1",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                subject.create("gone", "b").await;
                subject.delete("gone").await;
                let plain = list(&subject).send().await.unwrap();
                let all = list(&subject).include_planned_deletion(true).send().await.unwrap();
                let dated = all.secret_list().iter().filter(|entry| entry.deleted_date().is_some()).count();
                let (plain, all) = (names(plain.secret_list()), names(all.secret_list()));
                format!("by default: {plain}; IncludePlannedDeletion: {all}, with DeletedDate: {dated}")
            })
        },
    },
    Row {
        name: "DescribeSecret names the versions that have labels, and no others",
        page: "apireference/API_DescribeSecret.html#API_DescribeSecret_ResponseSyntax",
        says: "VersionIdsToStages: A list of the versions of the secret that have staging labels attached.",
        documented: "2 of 3",
        run: |subject| {
            Box::pin(async move {
                subject.create("app", "a").await;
                subject.put("app", "b").await;
                subject.put("app", "c").await;
                let described = subject.aws.describe_secret().secret_id(subject.name("app")).send().await.unwrap();
                format!("{} of 3", described.version_ids_to_stages().map_or(0, std::collections::HashMap::len))
            })
        },
    },
];
