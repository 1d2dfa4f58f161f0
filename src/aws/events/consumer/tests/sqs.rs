//! SQS in memory, behind the HTTP connector of the SDK.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tokio::time::sleep;

/// SQS in memory, on the clock of tokio.
#[derive(Default, Debug)]
pub(super) struct Sqs {
    /// The bodies in the queue, with the number of their deliveries.
    waiting: Mutex<Vec<(usize, String, u32)>>,
    deleted: Mutex<Vec<usize>>,
    receives: AtomicUsize,
    pub(super) batches: Mutex<Vec<usize>>,
    /// The error codes of the next receive calls.
    pub(super) receive_fails: Mutex<Vec<&'static str>>,
    pub(super) delete_fails: Mutex<Option<&'static str>>,
}

impl Sqs {
    pub(super) fn put(&self, body: &str) {
        let mut waiting = self.waiting.lock().unwrap();
        let id = waiting.len();
        waiting.push((id, body.to_owned(), 0));
    }

    async fn answer(&self, operation: &str, request: Value) -> Result<Value, &'static str> {
        if operation == "AmazonSQS.ReceiveMessage" {
            self.receives.fetch_add(1, Ordering::Relaxed);
            assert_eq!((&request["WaitTimeSeconds"], &request["MaxNumberOfMessages"]), (&json!(20), &json!(10)));
            assert_eq!(request["VisibilityTimeout"], Value::Null);
            {
                let mut fails = self.receive_fails.lock().unwrap();
                if !fails.is_empty() {
                    return Err(fails.remove(0));
                }
            }
            let given: Vec<Value> = {
                let mut waiting = self.waiting.lock().unwrap();
                let given = waiting.iter_mut().filter(|(.., times)| *times == 0).take(10);
                given
                    .map(|(id, body, times)| {
                        *times += 1;
                        let attributes = json!({"SentTimestamp": "1800000000000", "ApproximateReceiveCount": "1"});
                        json!({"ReceiptHandle": id.to_string(), "Body": body, "Attributes": attributes})
                    })
                    .collect()
            };
            if given.is_empty() {
                sleep(Duration::from_secs(20)).await;
            }
            return Ok(json!({"Messages": given}));
        }
        assert_eq!(operation, "AmazonSQS.DeleteMessageBatch");
        let entries = request["Entries"].as_array().unwrap();
        self.batches.lock().unwrap().push(entries.len());
        if let Some(code) = *self.delete_fails.lock().unwrap() {
            if code != "entry" {
                return Err(code);
            }
            let failed: Vec<Value> = entries
                .iter()
                .map(|entry| json!({"Id": entry["Id"], "SenderFault": true, "Code": "ReceiptHandleIsInvalid"}))
                .collect();
            return Ok(json!({"Failed": failed, "Successful": []}));
        }
        self.deleted
            .lock()
            .unwrap()
            .extend(entries.iter().map(|entry| entry["ReceiptHandle"].as_str().unwrap().parse::<usize>().unwrap()));
        let successful: Vec<Value> = entries.iter().map(|entry| json!({"Id": entry["Id"]})).collect();
        Ok(json!({"Failed": [], "Successful": successful}))
    }

    pub(super) fn deleted(&self) -> Vec<usize> {
        let mut deleted = self.deleted.lock().unwrap().clone();
        deleted.sort_unstable();
        deleted
    }
}

#[derive(Debug)]
pub(super) struct Wire(pub(super) Arc<Sqs>);

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let sqs = self.0.clone();
        HttpConnectorFuture::new(async move {
            let operation = request.headers().get("x-amz-target").unwrap().to_owned();
            let body = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            let (status, code, body) = match sqs.answer(&operation, body).await {
                Ok(body) => (200, None, body),
                Err(code) => (400, Some(code), json!({"__type": code, "message": "said-by-aws"})),
            };
            let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body.to_string()));
            if let Some(code) = code {
                response.headers_mut().insert("x-amzn-query-error", format!("{code};Sender"));
            }
            Ok(response)
        })
    }
}
