//! What the load generator sends: calls of the hub's methods, ready but for their key.

use anyhow::Context;
use serde_json::json;

use crate::args::Common;
use crate::frames::{RECORD_SEPARATOR, client_text};
use crate::hear::{Ear, Expected};
use crate::key::{KEY_LENGTH, Key, Template};

/// Who the messages of a run are from.
const USER: &str = "bench";

/// What stands where a key will be.
const ANY: Key = Key {
    sender: 0,
    number: 0,
};

/// What follows the key in a text of this length.
fn padding(bytes: u32) -> String {
    "x".repeat((bytes as usize).saturating_sub(KEY_LENGTH))
}

/// What hears the answers of this server to texts of this length.
pub(crate) fn ear(common: &Common, bytes: u32, echo: bool) -> Ear {
    Ear::new(Expected {
        receive: common.receive_method.clone(),
        user: USER.to_owned(),
        padding: padding(bytes),
        echo,
    })
}

/// A call that says something in a room.
pub(crate) fn say(common: &Common, room: &str, bytes: u32) -> anyhow::Result<Template> {
    let text = text(bytes);
    template(&common.send_method, &json!([room, USER, text]))
}

/// A call that is answered with its argument.
pub(crate) fn echo(common: &Common, bytes: u32) -> anyhow::Result<Template> {
    template(&common.echo_method, &json!([text(bytes)]))
}

/// The calls that join a room and leave it.
pub(crate) fn come_and_go(common: &Common, room: &str) -> anyhow::Result<Vec<Template>> {
    [&common.join_method, &common.leave_method]
        .into_iter()
        .map(|method| template(method, &json!([room])))
        .collect()
}

/// The call that joins a room, as it is sent.
pub(crate) fn join(common: &Common, room: &str) -> Vec<u8> {
    let record = record("join", &common.join_method, &json!([room]));
    let mut out = Vec::new();
    client_text(&mut out, record.len(), |out| out.extend_from_slice(&record));
    out
}

/// Appends a call with its key.
pub(crate) fn write(call: &Template, key: Key, out: &mut Vec<u8>) {
    client_text(out, call.len(), |out| call.write(key, out));
}

fn text(bytes: u32) -> String {
    String::from_utf8_lossy(&ANY.text()).into_owned() + &padding(bytes)
}

fn template(method: &str, arguments: &serde_json::Value) -> anyhow::Result<Template> {
    let id = String::from_utf8_lossy(&ANY.text()).into_owned();
    Template::new(&record(&id, method, arguments), ANY).context("a call without a key")
}

/// Written by hand: the order of its parts is what the raw limits know.
fn record(id: &str, method: &str, arguments: &serde_json::Value) -> Vec<u8> {
    let method = json!(method);
    let mut record =
        format!(r#"{{"type":1,"invocationId":"{id}","target":{method},"arguments":{arguments}}}"#)
            .into_bytes();
    record.push(RECORD_SEPARATOR);
    record
}
