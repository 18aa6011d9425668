//! Registries and packages that mean harm, each refused by the rule it breaks, with nothing
//! unpacked and nothing in the store.

mod registry;
pub mod tarball;

use std::path::Path;

use futures::StreamExt as _;
use paperclip_artifact::lock::Lock;
use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::client::{StoreClient, StoreOptions};
use paperclip_packer::npm::registry::{Registry, RegistryClient};
use paperclip_packer::npm::tarballs::{self, Sources};
use paperclip_packer::npm::toolchain::Toolchain;
use paperclip_packer::steps::error::PackError;
use paperclip_packer::steps::package::Package;
use paperclip_packer::steps::work::Work;
use paperclip_packing_api::report::Failure;
use paperclip_packing_api::report::FailureReason::{self, PackageRefused, RegistryUnavailable};
use registry::{Answer, Served, Store, VERSION, integrity, metadata};
use serde_json::{Value, json};
use tarball::{
    CHARACTER_DEVICE, FILE, FOLDER, GLOBAL_PAX, HARD_LINK, LONG_NAME, PAX, PIPE, SYMBOLIC_LINK,
    Tarball, record,
};

use crate::support;

/// Name of every poisoned package: each case has a registry of its own.
const NAME: &str = "poison";

struct Case {
    name: &'static str,
    served: Served,
    lock: Option<Value>,
    /// Whether its tarball alone is looked at.
    alone: bool,
    reason: FailureReason,
    words: Vec<&'static str>,
}

/// A package whose tarball breaks a rule.
fn archive(name: &'static str, rule: &'static str, tarball: Vec<u8>) -> Case {
    let case = honest(name, tarball);
    Case {
        // One of them goes the whole way.
        alone: name != "absolute path",
        words: vec!["poison@1.0.0", rule, "found", "wanted"],
        ..case
    }
}

/// A package as an honest registry serves it, whatever is in it, with a lock for it.
fn honest(name: &'static str, tarball: Vec<u8>) -> Case {
    let integrity = integrity(&tarball);
    Case {
        name,
        lock: Some(lock(&json!({"integrity": integrity}))),
        served: Served {
            metadata: Answer::Json(metadata(NAME, json!({"integrity": integrity}), &json!({}))),
            tarball: Answer::Bytes(tarball),
        },
        alone: false,
        reason: PackageRefused,
        words: Vec::new(),
    }
}

/// An honest package, served by a registry that answers this in place of its tarball.
fn answered(name: &'static str, words: &[&'static str], tarball: Answer) -> Case {
    let case = honest(name, Tarball::of(NAME).end());
    Case {
        served: Served {
            tarball,
            ..case.served
        },
        words: words.to_vec(),
        ..case
    }
}

/// An honest package behind metadata that is none.
fn described(name: &'static str, words: &[&'static str], metadata: Answer) -> Case {
    let case = honest(name, Tarball::of(NAME).end());
    Case {
        served: Served {
            metadata,
            ..case.served
        },
        words: words.to_vec(),
        ..case
    }
}

/// An honest package with a lock that is not.
fn locked(name: &'static str, words: &[&'static str], entry: &Value) -> Case {
    let tarball = Tarball::of(NAME).end();
    let mut whole = json!({"integrity": integrity(&tarball)});
    for (key, value) in entry.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    Case {
        lock: Some(lock(&whole)),
        words: words.to_vec(),
        ..honest(name, tarball)
    }
}

/// An honest package without a lock, whose dependencies npm has to resolve.
fn resolved(name: &'static str, words: &[&'static str], more: &Value) -> Case {
    let tarball = Tarball::of(NAME).end();
    let distribution = json!({"integrity": integrity(&tarball)});
    Case {
        lock: None,
        words: words.to_vec(),
        served: Served {
            metadata: Answer::Json(metadata(NAME, distribution, more)),
            tarball: Answer::Bytes(tarball.clone()),
        },
        ..honest(name, tarball)
    }
}

fn lock(entry: &Value) -> Value {
    let mut whole = json!({"version": VERSION});
    for (key, value) in entry.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    json!({"lockfileVersion": 3, "packages": {
        "": {"dependencies": {NAME: VERSION}},
        "node_modules/poison": whole,
    }})
}

fn paths() -> Vec<Case> {
    let with = |name: &[u8]| Tarball::of(NAME).file(name, b"x").end();
    let twice = |one: &[u8], two: &[u8]| Tarball::of(NAME).file(one, b"1").file(two, b"2").end();
    let linked = |kind, target| Tarball::of(NAME).link(kind, b"package/l", target).end();
    let deep = record("path", &format!("package/{}x", "d/".repeat(70)));
    let long = record("path", &format!("package/{}", "long/".repeat(250)));
    let long_name = [b"package/".as_slice(), &vec![b'n'; 5000]].concat();
    let part = record("path", &format!("package/{}", "n".repeat(256)));
    vec![
        archive("absolute path", "`absolute-path`", with(b"/etc/cron.d/x")),
        archive("parent path", "`parent-path`", with(b"package/../../x")),
        archive("parent path alone", "`parent-path`", with(b"..")),
        archive(
            "backslashes",
            "`name-characters`",
            with(b"package\\..\\..\\x"),
        ),
        archive(
            "control character",
            "`name-characters`",
            with(b"package/a\nb"),
        ),
        archive("other encoding", "`utf-8`", with(b"package/\xff\xfe")),
        archive(
            "symbolic link that escapes",
            "`link`",
            linked(SYMBOLIC_LINK, b"/etc/passwd"),
        ),
        archive(
            "symbolic link inside",
            "`link`",
            linked(SYMBOLIC_LINK, b"package.json"),
        ),
        archive(
            "hard link",
            "`link`",
            linked(HARD_LINK, b"../../../etc/passwd"),
        ),
        archive(
            "device",
            "`device`",
            Tarball::of(NAME)
                .entry(CHARACTER_DEVICE, b"package/d")
                .end(),
        ),
        archive(
            "pipe",
            "`device`",
            Tarball::of(NAME).entry(PIPE, b"package/p").end(),
        ),
        archive(
            "sparse file",
            "`kind`",
            Tarball::of(NAME).entry(b'S', b"package/s").end(),
        ),
        archive(
            "case",
            "`case-collision`",
            twice(b"package/Readme", b"package/README"),
        ),
        archive(
            "case of folders",
            "`case-collision`",
            twice(b"package/A/x", b"package/a/y"),
        ),
        archive(
            "case beyond ASCII",
            "`case-collision`",
            twice("package/\u{17f}".as_bytes(), b"package/s"),
        ),
        archive(
            "name twice",
            "`duplicate`",
            twice(b"package/x", b"package/./x"),
        ),
        archive(
            "file as folder",
            "`duplicate`",
            twice(b"package/x", b"package/x/y"),
        ),
        archive(
            "deep path",
            "`path-depth`",
            Tarball::of(NAME)
                .extension(PAX, &deep)
                .file(b"x", b"")
                .end(),
        ),
        archive(
            "long path",
            "`path-length`",
            Tarball::of(NAME)
                .extension(PAX, &long)
                .file(b"x", b"")
                .end(),
        ),
        archive(
            "long part",
            "`path-length`",
            Tarball::of(NAME)
                .extension(PAX, &part)
                .file(b"x", b"")
                .end(),
        ),
        archive(
            "long name",
            "`path-length`",
            Tarball::of(NAME)
                .extension(LONG_NAME, &long_name)
                .file(b"x", b"")
                .end(),
        ),
    ]
}

fn shapes() -> Vec<Case> {
    let pax = |kind, content: &[u8]| {
        Tarball::of(NAME)
            .extension(kind, content)
            .file(b"package/x", b"12345")
            .end()
    };
    let whole = Tarball::of(NAME).end();
    let behind = [&whole[..], b"more"].concat();
    let member = [&whole[..], &whole[..]].concat();
    let promised = Tarball::of(NAME).header(FILE, b"package/x", 5000, b"");
    vec![
        archive("pax size", "`pax-size`", pax(PAX, &record("size", "6"))),
        archive(
            "pax size with a sign",
            "`pax-header`",
            pax(PAX, &record("size", "+5")),
        ),
        archive(
            "pax path twice",
            "`pax-header`",
            pax(
                PAX,
                &[record("path", "package/a"), record("path", "b")].concat(),
            ),
        ),
        archive(
            "pax link",
            "`link`",
            pax(PAX, &record("linkpath", "/etc/passwd")),
        ),
        archive(
            "pax of all",
            "`pax-header`",
            pax(GLOBAL_PAX, &record("path", "package/x")),
        ),
        archive(
            "long name in the oldest format",
            "`format`",
            Tarball::of(NAME)
                .oldest_extension(LONG_NAME, b"package/x")
                .file(b"package/y", b"")
                .end(),
        ),
        archive(
            "pax in the oldest format",
            "`format`",
            Tarball::of(NAME)
                .oldest_extension(PAX, &record("path", "package/x"))
                .file(b"package/y", b"")
                .end(),
        ),
        archive(
            "pax without end",
            "`pax-header`",
            pax(PAX, &vec![b'x'; 20_000]),
        ),
        archive(
            "pax nonsense",
            "`pax-header`",
            pax(PAX, b"99 path=package/x\n"),
        ),
        archive(
            "pax path outside",
            "`parent-path`",
            pax(PAX, &record("path", "package/../../x")),
        ),
        archive(
            "folder with content",
            "`format`",
            Tarball::of(NAME)
                .header(FOLDER, b"package/d/", 5, b"")
                .content(b"12345")
                .end(),
        ),
        archive(
            "broken header",
            "`format`",
            Tarball::of(NAME).raw(&[7; 512]).end(),
        ),
        archive(
            "bytes behind the archive",
            "`trailing-data`",
            Tarball::of(NAME)
                .raw(&[0; 512])
                .file(b"package/hidden", b"x")
                .end(),
        ),
        archive("bytes behind the member", "`gzip`", behind),
        archive("second member", "`gzip`", member),
        archive("no gzip", "`gzip`", b"nothing of the kind".repeat(10)),
        archive(
            "half a member",
            "`truncated`",
            whole[..whole.len() / 2].to_vec(),
        ),
        archive("half a file", "`truncated`", promised.raw(&[1; 600]).cut()),
        archive("no file", "`truncated`", Tarball::new().end()),
    ]
}

fn sizes() -> Vec<Case> {
    let many = (0..100_000).fold(Tarball::of(NAME), |tarball, number| {
        tarball.file(format!("package/{number}").as_bytes(), b"")
    });
    let mebibyte = vec![0; 1 << 20];
    let bomb = (0..3).fold(Tarball::of(NAME), |tarball, number| {
        let name = format!("package/{number}");
        let tarball = tarball.header(FILE, name.as_bytes(), 200 << 20, b"");
        (0..200).fold(tarball, |tarball, _| tarball.raw(&mebibyte))
    });
    let giant = Tarball::of(NAME).header(FILE, b"package/x", 400 << 20, b"");
    vec![
        archive("100,000 files", "`file-count`", many.end()),
        archive("decompression bomb", "`tree-size`", bomb.end()),
        archive("one huge file", "`file-size`", giant.cut()),
    ]
}

fn registries() -> Vec<Case> {
    let to = |target: &str| Answer::To(target.to_owned());
    let near = &["`address`", "wanted"];
    let other = Tarball::of(NAME).file(b"package/other", b"").end();
    let stated = json!({"integrity": integrity(&Tarball::of(NAME).end()), "tarball": "http://169.254.169.254/latest"});
    let stated = Answer::Json(metadata(NAME, stated, &json!({})));
    let sha1 = json!({"shasum": "0123456789012345678901234567890123456789"});
    vec![
        answered(
            "redirect to link-local",
            near,
            to("http://169.254.169.254/latest/meta-data/"),
        ),
        answered("redirect to loopback", near, to("http://127.0.0.1:1/x.tgz")),
        answered("redirect to IPv6 loopback", near, to("http://[::1]/x.tgz")),
        answered(
            "redirect to a mapped address",
            near,
            to("http://[::ffff:169.254.169.254]/x.tgz"),
        ),
        answered(
            "redirect to localhost",
            near,
            to("http://localhost:1/x.tgz"),
        ),
        answered(
            "redirect to a file",
            &["`url-scheme`"],
            to("file:///etc/passwd"),
        ),
        answered("redirects without end", &["`redirects`"], Answer::ToItself),
        answered(
            "other bytes",
            &["poison@1.0.0", "`integrity`", "found", "wanted"],
            Answer::Bytes(other),
        ),
        answered("tarball without end", &["`answer-size`"], Answer::Endless),
        Case {
            reason: RegistryUnavailable,
            ..answered(
                "tarball that stops",
                &["poison@1.0.0"],
                Answer::Half(vec![7; 100_000]),
            )
        },
        described("metadata without end", &["`answer-size`"], Answer::Endless),
        described("metadata that explodes", &["`answer-size`"], Answer::Bomb),
        described("metadata elsewhere", near, to("http://169.254.169.254/")),
        described(
            "sha1 alone",
            &["no sha512"],
            Answer::Json(metadata(NAME, sha1, &json!({}))),
        ),
        Case {
            served: Served {
                metadata: stated,
                tarball: Answer::Missing,
            },
            ..answered("tarball said to be near", near, Answer::Missing)
        },
    ]
}

fn locks() -> Vec<Case> {
    let sha1 = json!({"integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="});
    let depends = |spec: &str| json!({"dependencies": {"evil": spec}});
    let only = "only a registry is allowed";
    vec![
        locked(
            "lock with sha1",
            &["node_modules/poison", "wanted sha512"],
            &sha1,
        ),
        locked(
            "lock with another hash",
            &["the lock has integrity"],
            &json!({"integrity": integrity(b"other")}),
        ),
        locked(
            "lock with git",
            &["evil", "git+ssh", only],
            &depends("git+ssh://git@h.example/a.git"),
        ),
        locked(
            "lock with a file",
            &["evil", "file:", only],
            &depends("file:../a"),
        ),
        locked(
            "lock with a URL",
            &["evil", "https:", only],
            &depends("https://h.example/a.tgz"),
        ),
        locked(
            "lock from git",
            &["node_modules/poison", only],
            &json!({"resolved": "git+ssh://git@h.example/a.git#1"}),
        ),
        locked(
            "alias outside",
            &["node_modules/poison", "wanted the name"],
            &json!({"name": "../../x"}),
        ),
        resolved(
            "dependency on git",
            &["evil"],
            &depends("git+https://127.0.0.1:1/a.git"),
        ),
        resolved(
            "dependency on a file",
            &["evil"],
            &depends("file:../../etc"),
        ),
        resolved(
            "dependency on a URL",
            &["evil"],
            &depends("http://169.254.169.254/a.tgz"),
        ),
    ]
}

/// A package that says it brings a lock of its own, which npm would unpack while it resolves.
fn looked_into() -> Case {
    let tarball = Tarball::of(NAME)
        .link(
            SYMBOLIC_LINK,
            b"package/npm-shrinkwrap.json",
            b"/etc/passwd",
        )
        .end();
    let more = json!({"_hasShrinkwrap": true});
    let distribution = json!({
        "integrity": integrity(&tarball),
        "tarball": "http://elsewhere.invalid/poison/-/poison-1.0.0.tgz",
    });
    let case = honest("looked into", tarball);
    Case {
        lock: None,
        words: vec!["EALLOWREMOTE", "resolve"],
        served: Served {
            metadata: Answer::Json(metadata(NAME, distribution, &more)),
            ..case.served
        },
        ..case
    }
}

/// The whole step.
async fn fetch(
    case: &Case,
    registry: &Registry,
    store: &StoreClient,
    toolchain: &Toolchain,
    folder: &Path,
) -> Result<(), PackError> {
    let platforms = Platforms::default();
    let lock = case.lock.as_ref().map(Value::to_string);
    let package = Package {
        name: NAME,
        version: VERSION,
        lock: lock.as_deref(),
        relock: None,
        platforms: &platforms,
    };
    let work = Work::at(folder);
    let store = Some((store, "plugins/poison"));
    work.fetch(&package, registry, toolchain, store).await?;
    Ok(())
}

/// What the step does with tarballs before npm may have them, without npm, which takes long
/// to start and would only be asked for the version.
async fn bring(case: &Case, registry: &Registry, folder: &Path) -> Result<(), PackError> {
    let client = RegistryClient::new(registry)?;
    let lock = case.lock.as_ref().map(Value::to_string).unwrap_or_default();
    let lock = Lock::parse(lock.as_bytes(), NAME, VERSION)?;
    let sources = Sources {
        tarball: None,
        store: None,
        owner: None,
        registry: &client,
    };
    tarballs::bring(sources, folder, &lock, &Platforms::default()).await?;
    Ok(())
}

/// Packs as far as the tree, and says what is wrong with how that ended.
async fn refuse(case: &Case, toolchain: &Toolchain) -> Result<(), String> {
    let store = Store::default();
    let client = StoreClient::new(StoreOptions::plain(&store.serve().await)).unwrap();
    let registry = Registry::new(&registry::serve(case.served.clone()).await);
    let folder = tempfile::tempdir().unwrap();
    let fetched = if case.alone {
        bring(case, &registry, folder.path()).await
    } else {
        fetch(case, &registry, &client, toolchain, folder.path()).await
    };
    let failure = match fetched {
        Ok(()) => return Err("it was taken".into()),
        Err(error) => Failure::from(&error),
    };
    let Failure { reason, message } = &failure;
    let missing = case.words.iter().find(|words| !message.contains(**words));
    if *reason != case.reason || missing.is_some() {
        return Err(format!("{reason:?} without {missing:?}: {message}"));
    }
    if folder.path().join("tree-x64/node_modules").exists() {
        return Err("something was unpacked".into());
    }
    if store.writes() != 0 {
        return Err("something is in the store".into());
    }
    println!("{}: {message}", case.name);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_refused_by_the_name_of_its_rule_and_leaves_nothing() {
    let toolchain = support::toolchain().await;
    let groups = [
        paths(),
        shapes(),
        sizes(),
        registries(),
        locks(),
        vec![looked_into()],
    ];
    let cases: Vec<Case> = groups.into_iter().flatten().collect();
    let wrong: Vec<String> = futures::stream::iter(&cases)
        .map(|case| async {
            let refused = refuse(case, &toolchain).await;
            refused.err().map(|why| format!("{}: {why}", case.name))
        })
        .buffer_unordered(4)
        .filter_map(|wrong| async { wrong })
        .collect()
        .await;
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn scripts_of_packages_do_not_run_and_the_rest_is_unpacked() {
    let marker = tempfile::tempdir().unwrap();
    let path = marker.path().join("ran");
    let script = format!("touch {}", path.display());
    let scripts =
        json!({"preinstall": script, "install": script, "postinstall": script, "prepare": script});
    let manifest = json!({"name": NAME, "version": VERSION, "scripts": scripts});
    let tarball = Tarball::new()
        .extension(GLOBAL_PAX, &record("comment", "of git"))
        .entry(FOLDER, b"package/")
        .file(b"package/package.json", manifest.to_string().as_bytes())
        .extension(
            PAX,
            &[record("path", "package/long"), record("mtime", "1.5")].concat(),
        )
        .file(b"package/short", b"12345")
        .end();
    let case = honest("scripts", tarball);
    let registry = Registry::new(&registry::serve(case.served).await);
    let folder = tempfile::tempdir().unwrap();
    let platforms = Platforms::default();
    let lock = case.lock.map(|lock| lock.to_string());
    let package = Package {
        name: NAME,
        version: VERSION,
        lock: lock.as_deref(),
        relock: None,
        platforms: &platforms,
    };
    let toolchain = support::toolchain().await;
    let work = Work::at(folder.path());
    let fetched = work.fetch(&package, &registry, &toolchain, None);
    assert_eq!(fetched.await.unwrap().packages, 1);
    assert!(!path.exists());
    assert_eq!(
        std::fs::read(folder.path().join("tree-x64/node_modules/poison/long")).unwrap(),
        b"12345"
    );
}
