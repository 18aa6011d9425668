//! Patterns of strings in a plugin manifest.

/// Characters of a word that starts and goes on in given ways.
fn is_word(text: &str, start: impl Fn(char) -> bool, rest: impl Fn(char) -> bool) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(start) && characters.all(rest)
}

fn is_lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// `^[a-z0-9][a-z0-9._-]*$`
pub(super) fn is_id(text: &str) -> bool {
    is_word(text, is_lower_or_digit, |c| {
        is_lower_or_digit(c) || matches!(c, '.' | '_' | '-')
    })
}

/// `^[a-z0-9][a-z0-9._:-]*$`
pub(super) fn is_key(text: &str) -> bool {
    is_word(text, is_lower_or_digit, |c| {
        is_lower_or_digit(c) || matches!(c, '.' | '_' | ':' | '-')
    })
}

/// `^[a-z0-9][a-z0-9_]*$`
pub(super) fn is_namespace_slug(text: &str) -> bool {
    is_word(text, is_lower_or_digit, |c| {
        is_lower_or_digit(c) || c == '_'
    })
}

/// `^[a-z][a-z0-9_]*$`
pub(super) fn is_object_type(text: &str) -> bool {
    is_word(
        text,
        |c| c.is_ascii_lowercase(),
        |c| is_lower_or_digit(c) || c == '_',
    )
}

/// `^[a-z][a-z0-9_.-]*$`
pub(super) fn is_provider_key(text: &str) -> bool {
    is_word(
        text,
        |c| c.is_ascii_lowercase(),
        |c| is_lower_or_digit(c) || matches!(c, '_' | '.' | '-'),
    )
}

/// `^[A-Za-z][A-Za-z0-9_]*$`
pub(super) fn is_variable(text: &str) -> bool {
    is_word(
        text,
        |c| c.is_ascii_alphabetic(),
        |c| c.is_ascii_alphanumeric() || c == '_',
    )
}

/// `^[A-Za-z_][A-Za-z0-9_-]*$`, and not `provider`.
pub(super) fn is_binding_field(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text != "provider"
        && is_word(text, first, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
        })
}

/// `^[a-z0-9][a-z0-9-]*$`
pub(super) fn is_route_segment(text: &str) -> bool {
    is_word(text, is_lower_or_digit, |c| {
        is_lower_or_digit(c) || c == '-'
    })
}

/// `d.d.d`, then perhaps `-pre` and `+build` of dotted identifiers.
pub(super) fn is_version(text: &str) -> bool {
    let are_identifiers = |text: &str| {
        text.split('.').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
    };
    let (text, build) = text
        .split_once('+')
        .map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text
        .split_once('-')
        .map_or((text, None), |(core, pre)| (core, Some(pre)));
    let numbers: Vec<_> = core.split('.').collect();
    numbers.len() == 3
        && numbers
            .iter()
            .all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        && pre.is_none_or(are_identifiers)
        && build.is_none_or(are_identifiers)
}

/// Five fields, each a comma list of `*`, `*/n`, `n`, `n-m`, `n/s` or `n-m/s`, digits only.
pub(super) fn is_cron(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_part = |part: &str| {
        let (range, step) = part
            .split_once('/')
            .map_or((part, None), |(range, step)| (range, Some(step)));
        let range_fits = range == "*"
            || match range.split_once('-') {
                Some((from, to)) => is_number(from) && is_number(to),
                None => is_number(range),
            };
        range_fits && step.is_none_or(is_number)
    };
    let fields: Vec<_> = text.split_whitespace().collect();
    fields.len() == 5 && fields.iter().all(|field| field.split(',').all(is_part))
}

/// A path of an API route that stays below its plugin's prefix.
pub(super) fn is_route_path(text: &str) -> bool {
    let is_character =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '/' | '-');
    let is_reserved = ["/api", "/plugins"].iter().any(|prefix| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    text.starts_with('/')
        && text.chars().all(is_character)
        && !text.contains("..")
        && !text.contains("//")
        && !is_reserved
}

/// A relative path without `..` and backslashes.
pub(super) fn is_relative_path(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('/')
        && !text.contains('\\')
        && text.split('/').all(|part| part != "..")
}

/// A relative path without empty, `.` and `..` segments.
pub(super) fn is_plain_path(text: &str) -> bool {
    is_relative_path(text) && text.split('/').all(|part| !matches!(part, "" | "."))
}

/// A UUID, in either case.
pub(super) fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()))
}
