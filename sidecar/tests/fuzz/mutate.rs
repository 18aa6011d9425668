//! Mutations of a corpus.

use crate::in_memory::random::Random;

/// What framings and parsers trip over.
const SPLICES: &[&[u8]] = &[
    b"\n",
    b"\r",
    b"\0",
    b"\"",
    b"\\",
    b"{",
    b"]",
    b",",
    b"null",
    b"1e999",
    b"-0",
    b"18446744073709551615",
    b"\"id\":\"7\",",
    b"\"method\":\"log\",",
    b"\"result\":{},",
    b"\xE2\x80\xA8",
    b"\xE2\x80\xA9",
    b"\xEF\xBB\xBF",
    b"\xFF",
    b"\xC0\x80",
    b"\xED\xA0\x80",
    b"\\ud800",
];

/// One input: a corpus entry after a few mutations, now and then none or two entries joined.
pub fn bytes(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(corpus).cloned().unwrap_or_default();
    for _ in 0..random.below(5) {
        mutate(random, &mut bytes, corpus);
    }
    bytes
}

/// A line that is well formed and wrong: an id that is a string, that nobody waits for, that
/// comes again, or a request under an id that is still open.
pub fn out_of_turn(random: &mut Random) -> Vec<u8> {
    let number = random.below(64);
    let ids = [
        number.to_string(),
        format!("\"{number}\""),
        format!("{number}.0"),
        format!("{number}e0"),
        format!("-{number}"),
        format!("[{number}]"),
        u64::MAX.to_string(),
        "null".to_owned(),
        "true".to_owned(),
        "\"\u{2028}\"".to_owned(),
    ];
    let id = random.pick(&ids).map_or("0", String::as_str);
    let line = match random.below(5) {
        0 => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"token":"stolen"}}}}"#),
        1 => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32002,"message":""}}}}"#),
        2 => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1,"error":null}}"#),
        3 => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"state.get","params":{{}}}}"#),
        _ => format!("{{\"jsonrpc\":\"2.0\",\r\"id\":{id},\r\"method\":\"log\",\"params\":{{}}}}"),
    };
    line.into_bytes()
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    match random.below(7) {
        0 => bytes.truncate(at),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        3 | 4 => {
            if let Some(splice) = random.pick(SPLICES) {
                bytes.splice(at..at, splice.iter().copied());
            }
        }
        5 => {
            let end = at + random.below(bytes.len() - at + 1);
            bytes.drain(at..end);
        }
        _ => {
            if let Some(other) = random.pick(corpus) {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len())..]);
            }
        }
    }
}
