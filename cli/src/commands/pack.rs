//! `pack`: makes the artifact of a package on this machine, as the cluster makes it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use paperclip_artifact::inspect;
use paperclip_artifact_format::platform::{Platform, Platforms};
use paperclip_packer::{
    local::{self, Local, Progress},
    npm::registry::Registry,
    steps::{assemble::Assembled, package::Package},
};
use paperclip_packing_api::{naming, resolve, single_file::SingleFile};
use serde_json::{Value, json};

use crate::{
    args::{Form, PackArguments},
    error::Error,
    output,
};

/// The subject of packing.
#[derive(Debug, PartialEq, Eq)]
enum Subject {
    /// A package of an npm registry.
    Package {
        package: String,
        version: String,
        lock: Option<String>,
    },
    /// A plugin of one file.
    Inline(SingleFile),
}

impl Subject {
    /// Name and version, as they are or as the plugin manifest has them.
    fn name(&self) -> (String, String) {
        match self {
            Self::Package {
                package, version, ..
            } => (package.clone(), version.clone()),
            Self::Inline(inline) => {
                let text = |field: &str| inline.manifest[field].as_str().unwrap_or_default();
                (text("id").to_owned(), text("version").to_owned())
            }
        }
    }
}

pub(super) async fn run(form: Option<Form>, arguments: &PackArguments) -> Result<(), Error> {
    let wanted = read_wanted(arguments)?;
    let registry = Registry {
        ca: arguments.registry_ca.clone(),
        npmrc: arguments.npmrc.clone(),
        ..Registry::new(&arguments.registry)
    };
    let cache = arguments.cache.clone().or_else(local::user_cache);
    let cache = cache.ok_or_else(|| Error::Input {
        what: "HOME is not set, so there is no folder for Node and npm: name one with --cache"
            .into(),
    })?;
    let (name, version) = wanted.name();
    let spec = format!("{name}@{version}");
    let doing = format!("pack {spec}");
    let program = std::env::current_exe().map_err(|source| Error::ReadFile {
        path: "this program".into(),
        source,
    })?;
    let local = Local {
        registry: &registry,
        cache: &cache,
        program,
    };
    let platforms = match &arguments.platform[..] {
        [] => Platforms::default(),
        named => named.iter().cloned().collect(),
    };
    let progress = |step| eprintln!("{}", describe(step, &spec));
    let assembled = match &wanted {
        Subject::Package { lock, .. } => {
            let package = Package {
                name: &name,
                version: &version,
                lock: lock.as_deref(),
                relock: None,
                platforms: &platforms,
            };
            local.pack(&package, progress).await
        }
        Subject::Inline(inline) => local.pack_single_file(inline, progress).await,
    };
    let assembled = assembled.map_err(|e| Error::artifact(&doing, e))?;
    let folder = arguments.layout.clone().unwrap_or_else(|| {
        let repository = naming::repository(&name);
        let name = repository.trim_start_matches("plugins/");
        PathBuf::from(format!("{name}-{}", assembled.version_tag()))
    });
    local::write(&assembled, &folder).map_err(|e| Error::artifact(&doing, e))?;
    tell(form, &assembled, &folder)
}

fn describe(step: Progress, spec: &str) -> String {
    match step {
        Progress::Toolchain => "bringing the pinned Node and npm".into(),
        Progress::Fetch => format!("installing {spec} and its dependencies"),
        Progress::Evaluate => "evaluating the plugin manifest".into(),
        Progress::Assemble => "putting the image together".into(),
    }
}

fn tell(form: Option<Form>, assembled: &Assembled, folder: &Path) -> Result<(), Error> {
    let digest = assembled.packed().digest();
    let platforms = platforms_of(assembled);
    if form == Some(Form::Name) {
        return output::print(&format!("{digest}\n"));
    }
    let lock = folder.join(local::LOCK_FILE);
    let referrers = assembled.referrers().iter().map(|one| json!(one.listed()));
    let answer = json!({
        "digest": digest,
        "sizeBytes": assembled.packed().size(),
        "platforms": platforms,
        "layout": folder,
        "lock": { "path": lock, "digest": assembled.lock_digest() },
        "referrers": referrers.collect::<Vec<_>>(),
    });
    output::answer(form, &answer, || {
        Ok(format!(
            "Digest:    {digest}\nSize:      {} bytes\nPlatforms: {}\nLayout:    {}\nLock:      {}\n",
            assembled.packed().size(),
            platforms.join(", "),
            folder.display(),
            lock.display(),
        ))
    })
}

/// Where the artifact runs, in the words of `inspect`.
fn platforms_of(assembled: &Assembled) -> Vec<String> {
    match &assembled.packed().platforms()[..] {
        [] => vec![inspect::ANY.to_owned()],
        named => named.iter().map(Platform::to_string).collect(),
    }
}

fn read_wanted(arguments: &PackArguments) -> Result<Subject, Error> {
    let what = &arguments.what;
    let lock = arguments.lock.as_deref().map(read).transpose()?;
    if is_file(what) {
        let text = read(Path::new(what))?;
        return of_file(&text, lock).map_err(|why| Error::Input {
            what: format!("{what}: {why}"),
        });
    }
    match what.rsplit_once('@') {
        Some((package, version)) if !package.is_empty() => Ok(Subject::Package {
            package: package.to_owned(),
            version: version.to_owned(),
            lock,
        }),
        _ => Err(Error::Input {
            what: format!("{what}: wanted NAME@VERSION or FILE.yaml"),
        }),
    }
}

fn is_file(text: &str) -> bool {
    let extension = Path::new(text).extension();
    extension.is_some_and(|found| found == "yaml" || found == "yml" || found == "json")
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::ReadFile {
        path: path.to_owned(),
        source,
    })
}

/// Finds the one `PaperclipPlugin` of a file, and the ConfigMaps it names that are in there too.
fn of_file(text: &str, lock: Option<String>) -> Result<Subject, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| e.to_string())?;
    let plugins: Vec<_> = of_kind(&documents, "PaperclipPlugin").collect();
    let [plugin] = plugins[..] else {
        let count = plugins.len();
        return Err(format!("it holds {count} PaperclipPlugins, wanted one"));
    };
    let source = &plugin["spec"]["source"];
    if let named @ Value::Object(_) = &source["configMap"] {
        return Ok(Subject::Inline(SingleFile {
            manifest: plugin["spec"]["manifest"].clone(),
            worker: text_in(&documents, named)?.to_owned(),
        }));
    }
    let npm = &source["npm"];
    let package = npm["package"]
        .as_str()
        .ok_or_else(|| format!("spec.source is {source}, wanted npm or configMap"))?;
    let lock = match (lock, &npm["lock"]) {
        (None, named @ Value::Object(_)) => {
            let found = text_in(&documents, named);
            Some(
                found
                    .map_err(|why| format!("{why}: give it by --lock"))?
                    .to_owned(),
            )
        }
        (given, _) => given,
    };
    let version = match (npm["version"].as_str(), &lock) {
        (Some(version), _) => Some(version.to_owned()),
        (None, Some(lock)) => resolve::locked(lock, package),
        (None, None) => None,
    };
    Ok(Subject::Package {
        package: package.to_owned(),
        version: version.ok_or_else(|| {
            let range = &npm["range"];
            format!("it names the range {range} and no lock: wanted a version, or a lock that holds {package}")
        })?,
        lock,
    })
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    let kind = kind.to_owned();
    documents.iter().filter(move |one| one["kind"] == kind)
}

/// The text under a key of a ConfigMap of the file.
fn text_in<'a>(documents: &'a [Value], named: &Value) -> Result<&'a str, String> {
    let text = |field: &str| named[field].as_str().unwrap_or_default();
    let (name, key) = (text("name"), text("key"));
    let found = of_kind(documents, "ConfigMap").find(|one| one["metadata"]["name"] == name);
    found
        .and_then(|map| map["data"][key].as_str())
        .ok_or_else(|| format!("key {key} of ConfigMap {name} is not in the file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: &str = "\
kind: PaperclipPlugin
spec:
  source: {npm: {package: '@acme/tea', version: 1.2.3, lock: {name: locks, key: tea.json}}}
";

    fn package(lock: &str) -> Subject {
        Subject::Package {
            package: "@acme/tea".into(),
            version: "1.2.3".into(),
            lock: Some(lock.into()),
        }
    }

    #[test]
    fn file_names_the_package_and_its_lock() {
        let map = "kind: ConfigMap\nmetadata: {name: locks}\ndata: {tea.json: '{}'}\n";
        let both = format!("{PLUGIN}---\n{map}");
        assert_eq!(of_file(&both, None), Ok(package("{}")));
        assert_eq!(of_file(PLUGIN, Some("mine".into())), Ok(package("mine")));
        let why = of_file(PLUGIN, None).unwrap_err();
        assert!(why.contains("tea.json of ConfigMap locks"), "{why}");
    }

    #[test]
    fn range_stands_for_the_version_in_the_lock() {
        let ranged = PLUGIN.replace("version: 1.2.3", "range: ^1.0.0");
        let lock = r#"{"packages":{"node_modules/@acme/tea":{"version":"1.2.3"}}}"#;
        assert_eq!(of_file(&ranged, Some(lock.into())), Ok(package(lock)));
        let unlocked = ranged.replace(", lock: {name: locks, key: tea.json}", "");
        let why = of_file(&unlocked, None).unwrap_err();
        assert!(why.contains(r#"the range "^1.0.0" and no lock"#), "{why}");
    }

    #[test]
    fn plugin_of_one_file_is_read_with_its_config_map() {
        let example = include_str!("../../../examples/greeter.yaml");
        let Ok(Subject::Inline(inline)) = of_file(example, None) else {
            panic!("no plugin of one file");
        };
        assert_eq!(inline.manifest["id"], "example.greeter");
        assert!(
            inline.worker.starts_with("// JSON-RPC"),
            "{}",
            inline.worker
        );
    }

    #[test]
    fn file_without_one_plugin_that_can_be_packed_is_refused() {
        let why = of_file("kind: ConfigMap\n", None).unwrap_err();
        assert!(why.contains("0 PaperclipPlugins"), "{why}");
        let other = "kind: PaperclipPlugin\nspec: {source: {oci: {}}}\n";
        let why = of_file(other, None).unwrap_err();
        assert!(why.contains("wanted npm or configMap"), "{why}");
    }

    #[test]
    fn scope_of_a_package_is_no_version() {
        let arguments = |what: &str| PackArguments {
            what: what.into(),
            ..PackArguments::default()
        };
        let wanted = read_wanted(&arguments("@acme/tea@1.0.0")).unwrap();
        assert_eq!(wanted.name(), ("@acme/tea".into(), "1.0.0".into()));
        for wrong in ["@acme/tea", "tea", ""] {
            assert!(read_wanted(&arguments(wrong)).is_err(), "{wrong}");
        }
    }
}
