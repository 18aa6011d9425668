//! Calls that name companies in every way that a reader may see or miss.

use paperclip_protocol::methods::{self, Direction};

use crate::in_memory::random::Random;

/// A call as it is written.
#[derive(Debug)]
pub struct Call {
    pub method: &'static str,
    /// JSON.
    pub params: String,
}

const KEYS: &[&str] = &[
    "companyId",
    "company\\u0049d",
    "CompanyId",
    "companyId ",
    "scopeKind",
    "scope\\u004bind",
    "scopeId",
    "filter",
    "stateKey",
    "__proto__x",
    "\\ud800",
];
const VALUES: &[&str] = &[
    "\"a\"",
    "\"b\"",
    "\" b\"",
    "\"a \"",
    "\"\\u0061\"",
    "\"\\u0062\"",
    "\"\"",
    "\"  \"",
    "\"\u{FEFF}a\"",
    "\"\u{85}a\"",
    "\"\u{2028}b\"",
    "\"a\\u0000\"",
    "\"A\"",
    "\"company\"",
    "\"c\\u006fmpany\"",
    "\"instance\"",
    "null",
    "5",
    "true",
    "[\"b\"]",
    "{\"companyId\":\"b\"}",
    "{\"companyId\":\"a\"}",
    "{\"companyId\":\"a\",\"companyId\":\"b\"}",
    "{\"company\\u0049d\":\" b \"}",
    "{\"companyId\":7}",
    "\"\\ud800\"",
];

const CROSSING: &[&str] = &[
    r#""companyId":"b""#,
    r#""company\u0049d":"\u0062""#,
    r#""companyId":" A ""#,
    r#""companyId":"a\u0000""#,
    "\"companyId\":\"\u{85}a\"",
    r#""companyId":5,"scopeKind":"company","scopeId":"b""#,
    r#""scopeId":"a","companyId":"","scopeId":"b","scopeKind":"c\u006fmpany""#,
    r#""companyId":[],"scopeKind":"company","scopeId":null"#,
];

/// A call of a method that some host serves.
pub fn call(random: &mut Random) -> Call {
    let asked: Vec<_> = methods::all()
        .filter(|method| method.direction == Direction::WorkerRequest)
        // These two are answered without a host.
        .filter(|method| !["events.subscribe", "secrets.resolve"].contains(&method.name))
        .collect();
    let method = match random.below(8) {
        0 => "events.subscribe",
        1 => "state.get",
        2 => "config.get",
        _ => random
            .pick(&asked)
            .map_or("state.get", |method| method.name),
    };
    let params = match random.below(40) {
        0 => "[\"companyId\",\"b\"]".to_owned(),
        1 => "null".to_owned(),
        _ => object(random),
    };
    Call { method, params }
}

/// Mostly one that names another company in its last words.
fn object(random: &mut Random) -> String {
    let spaces = ["", " ", "\t", "\r"];
    let mut members: Vec<String> = (0..random.below(4))
        .map(|_| {
            let key = random.pick(KEYS).unwrap();
            let value = random.pick(VALUES).unwrap();
            let space = random.pick(&spaces).unwrap();
            format!("{space}\"{key}\"{space}:{space}{value}{space}")
        })
        .collect();
    if !random.once_in(8) {
        members.extend(random.pick(CROSSING).map(|crossing| (*crossing).to_owned()));
    }
    format!("{{{}}}", members.join(","))
}
