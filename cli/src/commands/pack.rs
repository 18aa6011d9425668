//! `pack`: makes the artifact of a package on this machine, as the cluster makes it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use paperclip_artifact::{
    inputs,
    install::Registry,
    local::{self, Local, Progress},
    pack::{Assembled, Package},
    request::Platform,
};
use serde_json::{Value, json};

use crate::{
    args::{Form, PackArguments},
    error::Error,
    output,
};

/// What is to be packed.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    package: String,
    version: String,
    lock: Option<String>,
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
    let spec = format!("{}@{}", wanted.package, wanted.version);
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
    let package = Package {
        name: &wanted.package,
        version: &wanted.version,
        lock: wanted.lock.as_deref(),
        platform: &Platform::default(),
    };
    let assembled = local.pack(&package, |step| eprintln!("{}", describe(step, &spec)));
    let assembled = assembled.await.map_err(|e| Error::artifact(&doing, e))?;
    let folder = arguments.layout.clone().unwrap_or_else(|| {
        let repository = inputs::repository(&wanted.package);
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
    let digest = assembled.image().digest();
    if form == Some(Form::Name) {
        return output::print(&format!("{digest}\n"));
    }
    let lock = folder.join(local::LOCK_FILE);
    let referrers = assembled.referrers().iter().map(|one| json!(one.listed()));
    let answer = json!({
        "digest": digest,
        "sizeBytes": assembled.image().size(),
        "layout": folder,
        "lock": { "path": lock, "digest": assembled.lock_digest() },
        "referrers": referrers.collect::<Vec<_>>(),
    });
    output::answer(form, &answer, || {
        Ok(format!(
            "Digest:   {digest}\nSize:     {} bytes\nLayout:   {}\nLock:     {}\n",
            assembled.image().size(),
            folder.display(),
            lock.display(),
        ))
    })
}

fn read_wanted(arguments: &PackArguments) -> Result<Wanted, Error> {
    let mut wanted = match arguments.what.rsplit_once('@') {
        Some((package, version)) if !package.is_empty() && !is_file(&arguments.what) => Wanted {
            package: package.to_owned(),
            version: version.to_owned(),
            lock: None,
        },
        _ if is_file(&arguments.what) => {
            let text = read(Path::new(&arguments.what))?;
            let is_lock_given = arguments.lock.is_some();
            of_file(&text, is_lock_given).map_err(|why| Error::Input {
                what: format!("{}: {why}", arguments.what),
            })?
        }
        _ => {
            return Err(Error::Input {
                what: format!("{}: wanted NAME@VERSION or FILE.yaml", arguments.what),
            });
        }
    };
    if let Some(path) = &arguments.lock {
        wanted.lock = Some(read(path)?);
    }
    Ok(wanted)
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

/// Finds the one `PaperclipPlugin` of a file, and the lock that it names if it is in there too.
fn of_file(text: &str, is_lock_given: bool) -> Result<Wanted, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| e.to_string())?;
    let plugins: Vec<_> = of_kind(&documents, "PaperclipPlugin").collect();
    let [plugin] = plugins[..] else {
        let count = plugins.len();
        return Err(format!("it holds {count} PaperclipPlugins, wanted one"));
    };
    let source = &plugin["spec"]["source"];
    let npm = &source["npm"];
    let field = |name: &str| {
        let found = npm[name].as_str().map(str::to_owned);
        found.ok_or_else(|| format!("spec.source is {source}, wanted npm with a {name}"))
    };
    let lock = match &npm["lock"] {
        Value::Null => None,
        _ if is_lock_given => None,
        named => Some(lock_in(&documents, named)?),
    };
    Ok(Wanted {
        package: field("package")?,
        version: field("version")?,
        lock,
    })
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    let kind = kind.to_owned();
    documents.iter().filter(move |one| one["kind"] == kind)
}

fn lock_in(documents: &[Value], named: &Value) -> Result<String, String> {
    let text = |field: &str| named[field].as_str().unwrap_or_default();
    let (name, key) = (text("name"), text("key"));
    let found = of_kind(documents, "ConfigMap").find(|one| one["metadata"]["name"] == name);
    let lock = found.and_then(|map| map["data"][key].as_str());
    lock.map(str::to_owned).ok_or_else(|| {
        format!(
            "the plugin's lock is key {key} of ConfigMap {name}, which is not in the file: give it by --lock"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: &str = "\
kind: PaperclipPlugin
spec:
  source: {npm: {package: '@acme/tea', version: 1.2.3, lock: {name: locks, key: tea.json}}}
";

    #[test]
    fn file_names_the_package_and_its_lock() {
        let map = "kind: ConfigMap\nmetadata: {name: locks}\ndata: {tea.json: '{}'}\n";
        let wanted = |lock: Option<&str>| Wanted {
            package: "@acme/tea".into(),
            version: "1.2.3".into(),
            lock: lock.map(str::to_owned),
        };
        let both = format!("{PLUGIN}---\n{map}");
        assert_eq!(of_file(&both, false), Ok(wanted(Some("{}"))));
        assert_eq!(of_file(PLUGIN, true), Ok(wanted(None)));
        let why = of_file(PLUGIN, false).unwrap_err();
        assert!(why.contains("tea.json of ConfigMap locks"), "{why}");
    }

    #[test]
    fn file_without_one_npm_plugin_is_refused() {
        let why = of_file("kind: ConfigMap\n", false).unwrap_err();
        assert!(why.contains("0 PaperclipPlugins"), "{why}");
        let other = "kind: PaperclipPlugin\nspec: {source: {oci: {}}}\n";
        let why = of_file(other, false).unwrap_err();
        assert!(why.contains("wanted npm"), "{why}");
    }

    #[test]
    fn scope_of_a_package_is_no_version() {
        let arguments = |what: &str| PackArguments {
            what: what.into(),
            ..PackArguments::default()
        };
        let wanted = read_wanted(&arguments("@acme/tea@1.0.0")).unwrap();
        assert_eq!((&*wanted.package, &*wanted.version), ("@acme/tea", "1.0.0"));
        for wrong in ["@acme/tea", "tea", ""] {
            assert!(read_wanted(&arguments(wrong)).is_err(), "{wrong}");
        }
    }
}
