//! The loop of the shim: one thread that waits for the sidecar, for signals and for stderr.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, read},
};

use crate::{
    channel::{Channel, Full},
    delivered::DeliveredKeys,
    peer,
    protocol::{Command, Exit, Report},
    signals,
    worker::Worker,
};

/// Pause between attempts to reach the sidecar.
const RETRY: Duration = Duration::from_millis(100);
/// How long, after TERM, the sidecar may be away before the shim ends the worker itself.
const ORPHANED: Duration = Duration::from_secs(5);
/// How long a worker may take over a TERM of the shim.
const GRACE: Duration = Duration::from_secs(5);

/// Runs until the sidecar says quit, or until a TERM that nobody handles.
pub fn run(socket: PathBuf) -> io::Result<()> {
    harden()?;
    let signals = signals::watch(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD])?;
    let mut shim = Shim {
        socket,
        channel: None,
        lost: Instant::now(),
        proof: None,
        refused: false,
        delivered: DeliveredKeys::default(),
        worker: None,
        unreported: None,
        terminating: None,
        ending: Ending::No,
    };
    while !shim.is_done() {
        shim.act();
        shim.wait(&signals)?;
    }
    Ok(())
}

/// Keeps the worker, which has the same user, from the shim's memory and descriptors, and keeps
/// all it starts below the shim.
fn harden() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    Ok(prctl::set_child_subreaper(true)?)
}

/// How far the shim is with ending the worker on its own authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// TERM was sent then.
    Asked(Instant),
    /// KILL was sent.
    Killed,
}

#[derive(Debug)]
struct Shim {
    socket: PathBuf,
    channel: Option<Channel>,
    /// When the channel was last lost, or an attempt last made.
    lost: Instant,
    /// The socket's folder, open. The sidecar locks it through this descriptor; the lock stays
    /// for as long as it is open here, which no other process can bring about.
    proof: Option<File>,
    /// True when the listener at the socket was refused last time.
    refused: bool,
    /// Keys of what was delivered to the worker.
    delivered: DeliveredKeys,
    worker: Option<Worker>,
    /// An exit that no sidecar has heard of.
    unreported: Option<Exit>,
    /// When TERM came.
    terminating: Option<Instant>,
    ending: Ending,
}

impl Shim {
    fn is_done(&self) -> bool {
        self.worker.is_none() && self.ending != Ending::No
    }

    /// Whatever is due now.
    fn act(&mut self) {
        if self.channel.is_none() {
            self.connect();
        }
        match self.ending {
            Ending::No => {
                let orphaned = self.terminating.is_some_and(|at| {
                    self.channel.is_none() && at.max(self.lost).elapsed() >= ORPHANED
                });
                if orphaned {
                    eprintln!(
                        "paperclip-shim: no sidecar since the container was asked to stop, ending the worker"
                    );
                    self.end_worker();
                }
            }
            Ending::Asked(at) if at.elapsed() >= GRACE => {
                self.signal(Signal::SIGKILL);
                self.ending = Ending::Killed;
            }
            Ending::Asked(_) | Ending::Killed => {}
        }
    }

    fn end_worker(&mut self) {
        self.signal(Signal::SIGTERM);
        self.ending = Ending::Asked(Instant::now());
    }

    fn signal(&self, signal: Signal) {
        if let Some(worker) = &self.worker {
            worker.signal(signal);
        }
    }

    fn connect(&mut self) {
        let Ok(channel) = Channel::connect(&self.socket) else {
            return;
        };
        if !self.trusts(&channel) {
            return;
        }
        self.channel = Some(channel);
        self.say_hello();
        if self.worker.is_some() {
            self.report_worker();
        } else {
            self.report(&Report::Idle);
        }
        if let Some(exit) = self.unreported.take() {
            self.report_exit(exit);
        }
        if self.terminating.is_some() {
            self.report(&Report::Terminating);
        }
    }

    /// True when the listener at the socket is a sidecar.
    fn trusts(&mut self, channel: &Channel) -> bool {
        let is_outside = peer::is_outside(channel).unwrap_or(false);
        if !is_outside && !self.refused {
            eprintln!("paperclip-shim: a process of this container listens at the socket, refused");
        }
        self.refused = !is_outside;
        is_outside
    }

    fn say_hello(&mut self) {
        let hello = Report::Hello(self.delivered.keys()).encode();
        let proof = match self.proof.take() {
            Some(proof) => Ok(proof),
            None => File::open(self.socket.parent().unwrap_or(Path::new("/"))),
        };
        let said = proof.and_then(|proof| {
            let proof = self.proof.insert(proof);
            match &self.channel {
                Some(channel) => channel.send(&hello, &[proof.as_fd()], Full::Wait),
                None => Ok(()),
            }
        });
        if let Err(error) = said {
            eprintln!("paperclip-shim: introducing itself to the sidecar: {error}");
            self.lose();
        }
    }

    fn report(&mut self, report: &Report) -> bool {
        let full = match report {
            Report::Stderr(_) => Full::Drop,
            _ => Full::Wait,
        };
        let sent = self
            .channel
            .as_ref()
            .is_some_and(|channel| channel.send(&report.encode(), &[], full).is_ok());
        if !sent {
            self.lose();
        }
        sent
    }

    fn report_worker(&mut self) {
        let (Some(worker), Some(channel)) = (&self.worker, &self.channel) else {
            return;
        };
        let report = Report::Worker {
            pid: worker.pid().as_raw(),
            remembered: worker.remembered.clone(),
        };
        if channel
            .send(&report.encode(), &worker.pipes(), Full::Wait)
            .is_err()
        {
            self.lose();
        }
    }

    fn report_exit(&mut self, exit: Exit) {
        let report = Report::Exited(exit);
        if !self.report(&report)
            && let Report::Exited(exit) = report
        {
            self.unreported = Some(exit);
        }
    }

    fn lose(&mut self) {
        if self.channel.take().is_some() {
            self.lost = Instant::now();
        }
    }

    /// Waits for the next event, at most until the next thing is due, and takes it.
    fn wait(&mut self, signals: &OwnedFd) -> io::Result<()> {
        let [channel, stderr] = {
            let stderr = self.worker.as_ref().and_then(|w| w.stderr.as_ref());
            let mut wanted = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let channel = self.channel.as_ref().map(AsFd::as_fd);
            let others = [channel, stderr.map(AsFd::as_fd)];
            wanted.extend(
                others
                    .iter()
                    .flatten()
                    .map(|fd| PollFd::new(*fd, PollFlags::POLLIN)),
            );
            match poll(&mut wanted, self.timeout()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut ready = wanted[1..].iter().map(|fd| fd.any().unwrap_or_default());
            others.map(|fd| fd.is_some() && ready.next().unwrap_or_default())
        };
        if stderr {
            self.take_stderr();
        }
        self.take_signals(signals);
        if channel {
            self.take_command();
        }
        Ok(())
    }

    fn timeout(&self) -> PollTimeout {
        let is_idle = self.channel.is_some() && self.ending == Ending::No;
        if is_idle {
            return PollTimeout::NONE;
        }
        PollTimeout::try_from(RETRY).unwrap_or(PollTimeout::ZERO)
    }

    fn take_signals(&mut self, signals: &OwnedFd) {
        let mut numbers = [0; 64];
        let count = read(signals, &mut numbers).unwrap_or(0);
        for &number in &numbers[..count] {
            if i32::from(number) == Signal::SIGCHLD as i32 {
                self.reap();
            } else if self.terminating.is_none() {
                self.terminating = Some(Instant::now());
                self.report(&Report::Terminating);
            }
        }
    }

    /// Reaps every child that ended: as first process the shim inherits orphans as well.
    fn reap(&mut self) {
        loop {
            match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.ended(pid, Some(code), None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.ended(pid, None, Some(signal as i32));
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    eprintln!("paperclip-shim: reaping: {error}");
                    return;
                }
            }
        }
    }

    fn ended(&mut self, pid: Pid, code: Option<i32>, signal: Option<i32>) {
        if self.worker.as_ref().map(Worker::pid) != Some(pid) {
            return;
        }
        self.drain_stderr();
        let Some(mut worker) = self.worker.take() else {
            return;
        };
        if let Some(line) = worker.tail.flush() {
            self.stderr_line(line);
        }
        // What the worker left behind belongs to it.
        worker.signal(Signal::SIGKILL);
        if let Err(error) = peer::end_descendants() {
            eprintln!("paperclip-shim: ending what the worker left behind: {error}");
        }
        let stderr = worker.tail.kept().to_owned();
        drop(worker);
        self.report_exit(Exit {
            code,
            signal,
            stderr,
        });
    }

    /// Takes what is left in stderr, without waiting for descendants that hold it open.
    fn drain_stderr(&mut self) {
        while let Some(stderr) = self.worker.as_ref().and_then(|w| w.stderr.as_ref()) {
            let mut wanted = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut wanted, PollTimeout::ZERO), Ok(1..)) {
                return;
            }
            self.take_stderr();
        }
    }

    fn take_stderr(&mut self) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        let mut bytes = [0; 4096];
        let count = match worker.stderr.as_mut().map(|stderr| stderr.read(&mut bytes)) {
            Some(Ok(count)) => count,
            _ => 0,
        };
        if count == 0 {
            worker.stderr = None;
            return;
        }
        for line in worker.tail.push(&bytes[..count]) {
            self.stderr_line(line);
        }
    }

    /// The sidecar alone knows which words are secrets, so what a worker says while no sidecar
    /// listens is not printed; its end is in the report of its exit.
    fn stderr_line(&mut self, line: String) {
        if self.channel.is_some() {
            self.report(&Report::Stderr(line));
        }
    }

    fn take_command(&mut self) {
        let received = self.channel.as_ref().map(Channel::receive);
        let packet = match received {
            Some(Ok(Some(received))) => received.packet,
            Some(Ok(None) | Err(_)) => return self.lose(),
            None => return,
        };
        match Command::decode(&packet) {
            Ok(command) => self.obey(command),
            Err(_) => {
                eprintln!("paperclip-shim: the sidecar sent a command that cannot be read");
                self.lose();
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start(start) if self.worker.is_none() => match Worker::start(&start) {
                Ok(worker) => {
                    self.worker = Some(worker);
                    self.report_worker();
                }
                Err(why) => {
                    eprintln!("paperclip-shim: {why}");
                    self.report(&Report::Refused(why));
                }
            },
            Command::Start(_) => {}
            Command::Signal(number) => match Signal::try_from(number) {
                Ok(signal) => self.signal(signal),
                Err(_) => eprintln!("paperclip-shim: {number} is no signal"),
            },
            Command::Remember(bytes) => {
                if let Some(worker) = &mut self.worker {
                    worker.remembered = bytes;
                }
            }
            Command::Delivered(keys) => self.delivered.add(&keys),
            Command::Quit => self.end_worker(),
        }
    }
}
