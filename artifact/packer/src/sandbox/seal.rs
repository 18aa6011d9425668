//! The seal: gives up, for this process and what it executes, all but reading one tree and computing.
//!
//! Limits of resources, then Landlock (only named paths may be read, only Node may be
//! executed), then seccomp, in this order, because each takes away what the one before
//! needs. The system calls are an allow-list of what Node needs to import a module;
//! whatever is not on it does not exist: no sockets, no processes, no signals to others,
//! no io_uring. The calling process must have a single thread.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Seconds of CPU; the parent's deadline is in wall time.
const CPU_SECONDS: u64 = 10;
/// Bytes of private writable memory, threads' stacks among them. Node reserves about
/// 600 MiB of it before it runs a line, and touches a tenth of that.
const DATA_BYTES: u64 = 1024 * 1024 * 1024;
const OPEN_FILES: u64 = 64;

/// Where the loader finds the libraries Node is linked to, where they exist.
const LIBRARIES: [&str; 5] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
];

/// What a sealed process may still do.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The only program that may be executed.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Folders that may be read.
    pub readable: Vec<PathBuf>,
}

/// Why the seal could not be applied. Nothing was executed then.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A limit was refused.
    #[error("cannot limit {what}")]
    Limit {
        /// The resource.
        what: &'static str,
        /// The system's error.
        source: nix::Error,
    },
    /// A path to be read is not there.
    #[error("cannot open a path that may be read")]
    Path(#[from] PathFdError),
    /// The kernel does not do Landlock as wanted.
    #[error("cannot restrict the file system: the kernel must have Landlock")]
    Landlock(#[from] RulesetError),
    /// The kernel applied less than asked for.
    #[error("cannot restrict the file system: the kernel applied Landlock only in part")]
    Partial,
    /// The filter was refused.
    #[error("cannot restrict system calls")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The program did not start.
    #[error("cannot execute {}", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Seal {
    /// Seals this process and becomes the program. Returns only on failure.
    #[must_use]
    pub fn execute(self) -> SealError {
        let ready = limit()
            .and_then(|()| self.restrict_files())
            .and_then(|()| restrict_calls());
        match ready {
            Ok(()) => {
                let source = Command::new(&self.program).args(&self.arguments).exec();
                SealError::Execute {
                    program: self.program,
                    source,
                }
            }
            Err(error) => error,
        }
    }

    fn restrict_files(&self) -> Result<(), SealError> {
        // The first version of Landlock governs reading, writing and executing: required.
        // What later versions add is asked for where the kernel has it.
        let read = AccessFs::from_read(ABI::V1);
        let look = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut rules: RulesetCreated = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V6))?
            .handle_access(AccessNet::from_all(ABI::V6))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?;
        let program = PathFd::new(&self.program)?;
        rules = rules.add_rule(PathBeneath::new(
            program,
            AccessFs::ReadFile | AccessFs::Execute,
        ))?;
        for folder in &self.readable {
            rules = rules.add_rule(PathBeneath::new(PathFd::new(folder)?, look))?;
        }
        for library in LIBRARIES.iter().filter_map(|path| PathFd::new(path).ok()) {
            rules = rules.add_rule(PathBeneath::new(library, read))?;
        }
        let status = rules.restrict_self()?;
        if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
            return Err(SealError::Partial);
        }
        Ok(())
    }
}

fn limit() -> Result<(), SealError> {
    for (what, resource, value) in [
        ("CPU time", Resource::RLIMIT_CPU, CPU_SECONDS),
        ("memory", Resource::RLIMIT_DATA, DATA_BYTES),
        ("file size", Resource::RLIMIT_FSIZE, 0),
        ("core dumps", Resource::RLIMIT_CORE, 0),
        ("open files", Resource::RLIMIT_NOFILE, OPEN_FILES),
        ("locked memory", Resource::RLIMIT_MEMLOCK, 0),
        ("message queues", Resource::RLIMIT_MSGQUEUE, 0),
    ] {
        let failed = |source| SealError::Limit { what, source };
        // Whoever started us may have set less already, which cannot be raised.
        let (_, highest) = getrlimit(resource).map_err(failed)?;
        let value = value.min(highest);
        setrlimit(resource, value, value).map_err(failed)?;
    }
    Ok(())
}

fn restrict_calls() -> Result<(), SealError> {
    let program = filter().map_err(|e| SealError::Seccomp(Box::new(e)))?;
    seccompiler::apply_filter(&program).map_err(|e| SealError::Seccomp(Box::new(e)))
}

/// System calls without a condition.
const ALLOWED: &[i64] = &[
    // Files, which Landlock and the limit on file size govern.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_fadvise64,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_umask,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_membarrier,
    // This process and its threads.
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_prctl,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getpriority,
    libc::SYS_capget,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    // Facts.
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
];

/// The older spellings that only this CPU still has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OF_CPU: &[i64] = &[
    libc::SYS_arch_prctl,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_getrlimit,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OF_CPU: &[i64] = &[];

/// What may be asked of a descriptor: nothing that changes anything but the descriptor.
const IOCTLS: [u64; 5] = [
    libc::FIOCLEX,
    libc::FIONBIO,
    libc::FIONREAD,
    libc::TCGETS,
    libc::TIOCGWINSZ,
];

/// A filter for which whatever is not named does not exist (`ENOSYS`), so that libraries
/// fall back to older calls, as from `clone3`, whose flags no filter can see, to `clone`.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED
        .iter()
        .chain(ALLOWED_OF_CPU)
        .map(|&call| (call, Vec::new()))
        .collect();
    let is = |argument, value| {
        let length = SeccompCmpArgLen::Dword;
        let condition = SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value)?;
        SeccompRule::new(vec![condition])
    };
    // Threads, not processes.
    let thread = libc::CLONE_THREAD as u64;
    let is_thread = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(thread),
        thread,
    )?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is_thread])?]);
    // Signals to itself, as `abort` sends; the process keeps its number when it executes Node.
    rules.insert(
        libc::SYS_tgkill,
        vec![is(0, u64::from(std::process::id()))?],
    );
    // Limits of itself, which can only be lowered.
    rules.insert(libc::SYS_prlimit64, vec![is(0, 0)?]);
    let ioctls = IOCTLS
        .iter()
        .map(|&request| is(1, request))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, ioctls);
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(
        rules,
        missing,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    filter.try_into()
}
