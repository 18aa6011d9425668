//! The chart's copy of the definitions is what the types say.

use serde_json::Value;

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../charts/paperclip-crds/templates/crds.yaml"
);

/// `PAPERCLIP_UPDATE_GOLDEN=1 cargo test -p paperclip-crds` writes the file anew.
#[test]
fn chart_holds_the_definitions_printed_from_the_types() {
    let printed = paperclip_crds::yaml().unwrap();
    if std::env::var_os("PAPERCLIP_UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &printed).unwrap();
    }
    assert_eq!(std::fs::read_to_string(GOLDEN).unwrap(), printed);
}

#[test]
fn every_schema_is_structural_where_it_is_easily_broken() {
    for definition in paperclip_crds::definitions() {
        let definition = serde_json::to_value(definition).unwrap();
        walk(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    }
}

fn walk(schema: &Value) {
    let Some(object) = schema.as_object() else {
        return;
    };
    assert!(!object.contains_key("$ref"), "{schema}");
    assert!(
        !(object.contains_key("properties") && object.contains_key("additionalProperties")),
        "{schema}"
    );
    for alternative in object
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        assert!(alternative.get("type").is_none(), "{schema}");
    }
    for (_, property) in object
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        walk(property);
    }
    if let Some(items) = object.get("items") {
        walk(items);
    }
}
