//! A task, as the queue has it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many bytes the id of a task may have; a longer one is as good as none.
pub(crate) const LONGEST_ID: usize = 128;

/// How many bytes a task may have as JSON. Larger ones are malformed: what a worker needs much of, it fetches itself.
pub const LARGEST_TASK: usize = 64 * 1024;

/// Something to be done by exactly one worker.
///
/// In a queue it is JSON: `{"TaskName": "Demo", "TaskType": 1}`. Names of members may begin with a small letter, and others are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Task {
    /// What is to be done; whatever text the worker understands.
    #[serde(rename = "TaskName", alias = "taskName")]
    pub name: String,
    /// Which workers can do it: those that named this number, or none at all.
    #[serde(rename = "TaskType", alias = "taskType")]
    pub kind: i64,
}

/// Why some bytes are no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// There are more than [`LARGEST_TASK`] bytes.
    #[error("a task has {LARGEST_TASK} bytes at most")]
    TooLarge,
    /// It is no JSON, or other JSON. Holds the parser's words.
    #[error("a task is JSON such as {{\"TaskName\": \"Demo\", \"TaskType\": 1}}: {0}")]
    NotATask(String),
}

impl Task {
    /// Reads a task.
    pub fn parse(json: &[u8]) -> Result<Self, Malformed> {
        if json.len() > LARGEST_TASK {
            return Err(Malformed::TooLarge);
        }
        // An array would do for serde.
        if json.trim_ascii_start().first() == Some(&b'[') {
            return Err(Malformed::NotATask("invalid type: array".into()));
        }
        serde_json::from_slice(json).map_err(|error| Malformed::NotATask(error.to_string()))
    }

    /// What a raw worker is told: `TaskName` for type 1, `Special-<TaskName>` for all others.
    pub fn text(&self) -> String {
        match self.kind {
            1 => self.name.clone(),
            _ => format!("Special-{}", self.name),
        }
    }
}

/// Why a task was not done, in words for whoever looks at it later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Reason(String);

/// How many bytes of a reason are kept.
const LONGEST_REASON: usize = 1000;

impl Reason {
    /// Of a long text the beginning.
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(LONGEST_REASON));
        Self(text)
    }

    /// There was no worker for a type.
    pub(crate) fn nobody(kind: i64) -> Self {
        Self(format!("no worker does tasks of type {kind}"))
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// An id for a task that came without one: 32 hexadecimal digits, random.
pub(crate) fn new_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_its_name_and_its_type() {
        let task = Task {
            name: "Demo".into(),
            kind: 1,
        };
        for json in [
            r#"{"TaskName": "Demo", "TaskType": 1}"#,
            r#"{"taskType":1,"taskName":"Demo"}"#,
            r#" {"TaskName":"Demo","TaskType":1,"Owner":{"a":[1]}} "#,
        ] {
            assert_eq!(Task::parse(json.as_bytes()).unwrap(), task, "{json}");
        }
        let json = serde_json::to_string(&task).unwrap();
        assert_eq!(json, r#"{"TaskName":"Demo","TaskType":1}"#);
    }

    #[test]
    fn what_is_no_task_says_why() {
        let large = format!(r#"{{"TaskName":"{}","TaskType":1}}"#, "x".repeat(70_000));
        for (wrong, why) in [
            ("", "EOF"),
            ("Demo", "expected value"),
            (r#"["Demo", 1]"#, "invalid type"),
            (r#"{"TaskName":"Demo"}"#, "missing field `TaskType`"),
            (r#"{"TaskType":1}"#, "missing field `TaskName`"),
            (r#"{"TaskName":null,"TaskType":1}"#, "invalid type: null"),
            (
                r#"{"TaskName":"Demo","TaskType":"1"}"#,
                "invalid type: string",
            ),
            (r#"{"TaskName":"Demo","TaskType":1.5}"#, "invalid type"),
            (r#"{"TaskName":"Demo","TaskType":1} {}"#, "trailing"),
            (&large, "65536 bytes at most"),
        ] {
            let error = Task::parse(wrong.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
        assert!(Task::parse(b"{\"TaskName\":\"\xff\",\"TaskType\":1}").is_err());
    }

    #[test]
    fn raw_workers_are_told_of_special_tasks() {
        let task = |kind| Task {
            name: "Demo".into(),
            kind,
        };
        assert_eq!(task(1).text(), "Demo");
        assert_eq!(task(2).text(), "Special-Demo");
        assert_eq!(task(-1).text(), "Special-Demo");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = Reason::new("ä".repeat(2_000));
        assert_eq!(reason.as_str().len(), 1_000);
        assert_eq!(Reason::new(format!("x{reason}")).as_str().len(), 999);
    }
}
