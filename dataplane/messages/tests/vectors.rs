//! Test that this crate reads and writes the same bytes as the Python implementation.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its vectors has failed"
)]

use std::path::{Path, PathBuf};

use nm_messages::{
    decode_batch, encode, DecodeError, Frame, ToController, ToNode, Value, Wire, MAX_MESSAGE,
    VERSION,
};
use serde_json::{json, Map, Value as Json};

#[test]
fn messages_are_encoded_and_decoded_as_the_vectors() {
    let mut seen = 0;
    for entry in load("good") {
        match entry["side"].as_str().unwrap() {
            "to_controller" => check_good::<ToController>(&entry),
            "to_node" => check_good::<ToNode>(&entry),
            _ => continue, // messages of agents and operators exist only in Python
        }
        seen += 1;
    }
    assert!(seen > 30, "only {seen} vectors concern a dataplane");
}

#[test]
fn an_invalid_message_is_reported_and_does_not_affect_the_others() {
    for entry in load("bad") {
        let name = entry["name"].as_str().unwrap();
        let found: Vec<Json> = decode_batch::<ToController>(&bytes("bad", name))
            .into_iter()
            .map(|item| match item {
                Ok(frame) => json!({"type": frame.message.kind()}),
                Err(bad) => json!({"id": bad.id, "node": bad.node, "error": bad.error.id()}),
            })
            .collect();
        assert_eq!(Json::Array(found), entry["items"], "{name}");
    }
}

#[test]
fn unusual_valid_messages_are_decoded() {
    for entry in load("read") {
        let name = entry["name"].as_str().unwrap();
        let frame = only::<ToController>(&bytes("read", name), name);
        assert_eq!(
            described(&encode(&frame).unwrap()),
            expected(&entry),
            "{name}"
        );
    }
}

#[test]
fn version_and_size_limit_equal_the_vectors() {
    let text = std::fs::read_to_string(folder().join("limits.json")).unwrap();
    let limits: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(
        limits,
        json!({"version": VERSION, "max_message": MAX_MESSAGE})
    );
    let found = decode_batch::<ToNode>(&vec![0; MAX_MESSAGE + 1]);
    assert!(matches!(
        found[0].as_ref().unwrap_err().error,
        DecodeError::Oversized { .. }
    ));
}

fn check_good<M: Wire>(entry: &Json) {
    let name = entry["name"].as_str().unwrap();
    let data = bytes("good", name);
    let frame = only::<M>(&data, name);
    assert_eq!(
        encode(&frame).unwrap(),
        data,
        "{name} is written differently"
    );
    assert_eq!(described(&data), expected(entry), "{name}");
}

fn only<M: Wire>(data: &[u8], name: &str) -> Frame<M> {
    let mut frames = decode_batch::<M>(data);
    assert_eq!(frames.len(), 1, "{name}");
    frames
        .remove(0)
        .unwrap_or_else(|bad| panic!("{name}: {}", bad.error))
}

fn expected(entry: &Json) -> Json {
    json!([
        VERSION,
        entry["id"],
        entry["node"],
        entry["type"],
        entry["body"]
    ])
}

fn described(data: &[u8]) -> Json {
    plain(&rmpv::decode::read_value(&mut &data[..]).unwrap())
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Boolean(flag) => json!(flag),
        Value::Integer(number) => number
            .as_u64()
            .map_or_else(|| json!(number.as_i64()), |n| json!(n)),
        Value::F32(number) => json!(number),
        Value::F64(number) => json!(number),
        Value::String(text) => json!(text.as_str()),
        Value::Binary(data) => {
            json!({"$bytes": data.iter().map(|b| format!("{b:02x}")).collect::<String>()})
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Map(pairs) => Json::Object(
            pairs
                .iter()
                .map(|(k, v)| (key(k), plain(v)))
                .collect::<Map<_, _>>(),
        ),
        Value::Ext(..) => panic!("the protocol has no extension types"),
    }
}

fn key(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn load(name: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn bytes(kind: &str, name: &str) -> Vec<u8> {
    std::fs::read(folder().join(kind).join(format!("{name}.bin"))).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
}

/// Changes, truncates and repeats bytes of valid messages; decoding must end with frames or errors.
#[test]
fn corrupted_messages_are_decoded_without_a_panic() {
    let mut state = 7_u64;
    let mut chance = move |below: usize| {
        // The generator of Knuth's MMIX: reproducible, of sufficient quality for this.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    for entry in load("good") {
        let data = bytes("good", entry["name"].as_str().unwrap());
        for _ in 0..200 {
            let mut damaged = data.clone();
            for _ in 0..=chance(3) {
                let at = chance(damaged.len());
                match chance(3) {
                    0 => damaged[at] = chance(256) as u8,
                    1 => damaged.truncate(at + 1),
                    _ => damaged.extend_from_within(at..),
                }
            }
            for frame in decode_batch::<ToNode>(&damaged).into_iter().flatten() {
                encode(&frame).unwrap();
            }
            drop(decode_batch::<ToController>(&damaged));
        }
    }
}
