//! Batches: a file of requests that a provider answers within a day, at a lower price.
//!
//! # Source
//! The files and batches endpoints of the OpenAI API, which Groq, Together and Mistral offer in the same form or nearly.

use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Unanswered;
use super::reply::{Problem, read_completion};
use super::{Answer, Client, Failure};

/// A batch, as its provider tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Batch {
    /// Its name there.
    pub id: String,
    /// `validating`, `in_progress`, `finalizing`, `completed`, `failed`, `expired`, `cancelling`, `cancelled`.
    pub status: String,
    /// The file that it was made from.
    pub input_file_id: String,
    /// The file of replies, once there are any.
    #[serde(default)]
    pub output_file_id: Option<String>,
    /// The file of requests that failed, if any did.
    #[serde(default)]
    pub error_file_id: Option<String>,
}

impl Batch {
    /// Whether nothing more will come of it.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "expired" | "cancelled")
    }
}

/// The reply to one request of a batch.
#[derive(Debug)]
pub struct BatchReply {
    /// The name that the request had in its file.
    pub custom_id: String,
    /// The answer, or why there is none.
    pub result: Result<Answer, Unanswered>,
}

/// A line of a file of replies.
#[derive(Deserialize)]
struct Line {
    custom_id: String,
    #[serde(default)]
    response: Option<Response>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Response {
    status_code: u16,
    body: Value,
}

#[derive(Deserialize)]
struct File {
    id: String,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Batch>,
}

/// What stands between the parts of a form; no line of JSON begins with it.
const BOUNDARY: &str = "nexa-7f3a1c9e5b2d4860";

impl Client {
    /// A request as a line of a batch's file.
    pub fn batch_line(custom_id: &str, body: &Value) -> String {
        let line =
            json!({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body});
        format!("{line}\n")
    }

    /// Uploads a file of requests, and returns its name there.
    ///
    /// # Errors
    /// Fails with the kind of failure; messages never hold the key.
    pub async fn upload(&self, lines: &str) -> Result<String, Failure> {
        let part = |disposition: &str, content: &str| {
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
        };
        let form = [
            part("name=\"purpose\"", "batch"),
            part("name=\"file\"; filename=\"requests.jsonl\"", lines),
            format!("--{BOUNDARY}--\r\n"),
        ]
        .concat();
        let call = self
            .http
            .post(self.url("files"))
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(form);
        Ok(self.read::<File>(call).await?.id)
    }

    /// Hands an uploaded file in.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub async fn create_batch(&self, input_file_id: &str) -> Result<Batch, Failure> {
        let body = json!({
            "input_file_id": input_file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        });
        let call = self.http.post(self.url("batches")).header(CONTENT_TYPE, "application/json");
        self.read(call.body(body.to_string())).await
    }

    /// The newest batches of the account.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub async fn batches(&self) -> Result<Vec<Batch>, Failure> {
        Ok(self.read::<List>(self.http.get(self.url("batches?limit=100"))).await?.data)
    }

    /// How far a batch is.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub async fn batch(&self, id: &str) -> Result<Batch, Failure> {
        self.read(self.http.get(self.url(&format!("batches/{id}")))).await
    }

    /// Asks a provider to stop working on a batch; what it has answered by then is charged and can be collected.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub async fn cancel_batch(&self, id: &str) -> Result<Batch, Failure> {
        self.read(self.http.post(self.url(&format!("batches/{id}/cancel")))).await
    }

    /// The replies in a file.
    ///
    /// # Errors
    /// As [`upload`](Self::upload), and where a line is no reply.
    pub async fn replies(&self, file_id: &str) -> Result<Vec<BatchReply>, Failure> {
        let text = self.text(self.http.get(self.url(&format!("files/{file_id}/content")))).await?;
        text.lines().filter(|line| !line.trim().is_empty()).map(|line| self.reply(line)).collect()
    }

    fn reply(&self, line: &str) -> Result<BatchReply, Failure> {
        let Line { custom_id, response, error } = serde_json::from_str(line)
            .map_err(|e| Failure::Malformed(self.scrub(&format!("a reply of a batch: {e}"))))?;
        let result = match response {
            Some(Response { status_code: 200, body }) => {
                read_completion(&body.to_string(), &self.endpoint.model)
            }
            Some(Response { status_code, body }) => {
                let status = reqwest::StatusCode::from_u16(status_code).unwrap_or_default();
                let problem = Problem::read(&self.scrub(&body.to_string()));
                Err(Unanswered::refused(status, &reqwest::header::HeaderMap::new(), &problem))
            }
            // A request that was never worked on, as the batch expired or was stopped.
            None => {
                let words = Problem::read(&self.scrub(&error.unwrap_or_default().to_string())).message;
                Err(Unanswered { failure: Failure::Server(words), billed: super::Billed::Nothing })
            }
        };
        Ok(BatchReply { custom_id, result })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint.base_url)
    }

    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        call: reqwest::RequestBuilder,
    ) -> Result<T, Failure> {
        let text = self.text(call).await?;
        serde_json::from_str(&text).map_err(|e| Failure::Malformed(self.scrub(&format!("{e}: {text}"))))
    }

    async fn text(&self, call: reqwest::RequestBuilder) -> Result<String, Failure> {
        let (status, headers, text) = self.exchange(call).await.map_err(|unanswered| unanswered.failure)?;
        if status.is_success() {
            return Ok(text);
        }
        Err(Unanswered::refused(status, &headers, &Problem::read(&self.scrub(&text))).failure)
    }
}
