//! One run of npm: its options, its environment, its end.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use paperclip_artifact::limits;
use paperclip_artifact_format::platform::Platform;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::npm::error::{InstallError, classify};
use crate::npm::install::{CACHE, GLOBAL_NPMRC, NPMRC, Npm};

/// One run of npm.
const DEADLINE: Duration = Duration::from_secs(300);

impl Npm<'_> {
    pub(crate) async fn run(
        &self,
        action: &str,
        arguments: &[&str],
    ) -> Result<Vec<u8>, InstallError> {
        let started = |source| InstallError::Work {
            action: format!("start npm to {action}"),
            path: self.toolchain.node(),
            source,
        };
        // What npm got over by trying again is no part of this run.
        drop(self.gateways.take_fault());
        let mut child = self.command(arguments).spawn().map_err(started)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let finished = tokio::time::timeout(DEADLINE, async {
            let (stdout, stderr) = tokio::join!(read_bounded(stdout), read_bounded(stderr));
            Ok::<_, io::Error>((child.wait().await?, stdout?, stderr?))
        });
        let npm_failed = |message: String| InstallError::Npm {
            action: action.to_owned(),
            message,
        };
        let (status, stdout, stderr) = finished
            .await
            .map_err(|_| npm_failed(format!("no end after {} s", DEADLINE.as_secs())))?
            .map_err(|e| npm_failed(e.to_string()))?;
        if status.success() {
            Ok(stdout)
        } else {
            Err(self.failed(action, &stdout, &stderr))
        }
    }

    /// Why npm failed: what the gateway saw, else what npm says.
    fn failed(&self, action: &str, stdout: &[u8], stderr: &[u8]) -> InstallError {
        let action = action.to_owned();
        match self.gateways.take_fault() {
            Some(source) => InstallError::Fetch { action, source },
            None => {
                let stderr = self.gateways.outside(&String::from_utf8_lossy(stderr));
                classify(&action, stdout, stderr.as_bytes())
            }
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.toolchain.node());
        command
            .arg(self.toolchain.npm())
            .args(arguments)
            .args(self.options())
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", self.toolchain.folder().join("bin"))
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn options(&self) -> Vec<OsString> {
        let Platform { os, cpu, libc } = self.platform;
        let fixed = [
            "--ignore-scripts",
            "--omit=dev",
            "--omit-lockfile-registry-resolved",
            "--no-bin-links",
            "--install-links=false",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--no-progress",
            "--no-color",
            "--loglevel=error",
            "--logs-max=0",
            "--umask=0022",
            "--allow-git=none",
            "--allow-remote=none",
            "--allow-file=none",
            "--allow-directory=none",
            "--fetch-retries=3",
            "--fetch-retry-mintimeout=500",
            "--fetch-retry-maxtimeout=10000",
        ];
        let joined = |name: &str, value: &OsStr| {
            let mut option = OsString::from(format!("--{name}="));
            option.push(value);
            option
        };
        let mut options: Vec<OsString> = fixed.iter().map(OsString::from).collect();
        options.extend([
            joined("registry", self.gateways.url().as_ref()),
            joined("os", os.as_ref()),
            joined("cpu", cpu.as_ref()),
            joined("libc", libc.as_ref()),
            joined("cache", self.home.join(CACHE).as_ref()),
            joined("userconfig", self.home.join(NPMRC).as_ref()),
            joined("globalconfig", self.home.join(GLOBAL_NPMRC).as_ref()),
        ]);
        options
    }
}

async fn read_bounded(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream)
            .take(limits::NPM_OUTPUT)
            .read_to_end(&mut kept)
            .await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}
