//! What is wrong with the ConfigMaps and Secrets that a plugin names.

use paperclip_crds::labels;

use super::observed::{Kind, Lookup, Reference};

/// Why the reference cannot be used, in the operator's words.
pub(super) fn trouble(reference: &Reference) -> Option<String> {
    let Reference {
        field,
        kind,
        name,
        key,
        lookup,
    } = reference;
    let what = match lookup {
        Lookup::NotRead => return None,
        Lookup::Missing => "does not exist".to_owned(),
        Lookup::Found(found) if *kind == Kind::Secret && !found.is_open => {
            format!("lacks the label {}=true", labels::ALLOW_PLUGINS)
        }
        Lookup::Found(found) => match key {
            Some(key) if !found.keys.contains(key) => format!("has no key {key}"),
            _ => return None,
        },
    };
    Some(format!("{kind:?} {name} of {field} {what}."))
}
