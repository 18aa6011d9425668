//! Hosts, a worker, and the ledger of their calls.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use paperclip_bridge::v1::{
    Notification, Phase, Pong, Request, Response, RpcError, SessionRequest, SessionResponse,
    response, session_request, session_response,
};
use paperclip_protocol::{jsonrpc, limits::Limits};
use paperclip_shim::delivered::DeliveredKeys;
use paperclip_sidecar::{grants::Grants, multiplexer::Multiplexer};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, time::Instant};

use crate::in_memory::{Host, Worker, random::Random};

/// The time that passes now and then, in which calls with a timeout of 1 ms end.
const SHORT: Duration = Duration::from_millis(2);
/// How long the last calls may take to end.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_HOSTS: usize = 6;
const MOST_OPEN: usize = 150;
/// How many of the last events and slots hosts may tell or run again.
const RECENT: usize = 4;
const COMPANIES: [&str; 3] = ["a", "b", "c"];
/// Some that pass without a task and some that do not.
const METHODS: [&str; 5] = [
    "getData",
    "performAction",
    "executeTool",
    "health",
    "vendor.call",
];
/// Errors that the multiplexer makes for a host, and the worker's own.
const TO_HOST: [i32; 4] = [
    jsonrpc::WORKER_UNAVAILABLE,
    jsonrpc::LIMIT_EXCEEDED,
    jsonrpc::TIMEOUT,
    jsonrpc::WORKER_ERROR,
];
/// Errors that the multiplexer makes for the worker, and a host's own.
const TO_WORKER: [i32; 5] = [
    jsonrpc::WORKER_UNAVAILABLE,
    jsonrpc::TIMEOUT,
    jsonrpc::CAPABILITY_DENIED,
    jsonrpc::INVOCATION_SCOPE_DENIED,
    jsonrpc::WORKER_ERROR,
];

/// What is wrong on purpose between multiplexer and hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// An answer goes to another host.
    WrongHost,
    /// An answer comes twice.
    Twice,
    /// An answer carries the result of another call.
    OtherOutcome,
    /// Each host has a name of its own for an event.
    EventsApart,
    /// Each host has a name of its own for a slot.
    SlotsApart,
    /// A sidecar does not learn what its predecessor told the worker.
    Forgotten,
}

/// How often what happened.
#[derive(Debug, Default)]
pub struct Counts {
    joins: usize,
    leaves: usize,
    crashes: usize,
    sidecars: usize,
    adopted: usize,
    results_at_hosts: usize,
    errors_at_hosts: usize,
    timeouts_at_hosts: usize,
    limits_at_hosts: usize,
    results_at_worker: usize,
    refusals_moved_on: usize,
    denied_for_company: usize,
    denied_for_capability: usize,
    errors_at_worker: usize,
    told: usize,
    events_heard: usize,
    events_told_again: usize,
    slots_run: usize,
    slots_joined: usize,
    slots_lost: usize,
}

impl Counts {
    /// A run in which something never happened shows nothing about it.
    pub fn assert_each_happened(&self) {
        let text = format!("{self:?}");
        assert!(!text.contains(": 0"), "{text}");
    }
}

/// A call that a host made and that has not ended.
struct Made {
    token: String,
    invocation: Option<String>,
}

/// A host and what it knows.
struct Attached {
    host: Host,
    /// Numbers its messages, in the order in which it sends them.
    said: u64,
    /// Number of the last line of the worker that it heard.
    heard: u64,
    next_id: u64,
    made: HashMap<u64, Made>,
    /// Requests of the worker that it has not answered: id and token.
    asked: Vec<(u64, String)>,
}

/// A call that the worker got and has not answered.
struct Got {
    id: Value,
    token: String,
    invocation: Option<String>,
}

/// A call that the worker made and that has not ended.
struct Ask {
    token: String,
    invocation: Option<String>,
    /// The company of the invocation is another than that of the params.
    crosses: bool,
    granted: bool,
    /// A sidecar ended meanwhile, and perhaps the call with it.
    may_be_lost: bool,
    /// Hosts that had left when it was made: once another does, it may have been with that one.
    leaves: usize,
}

struct Running {
    worker: Worker,
    /// The last call and the last notification of each host that it heard.
    heard: HashMap<(usize, bool), u64>,
    got: Vec<Got>,
    asks: HashMap<String, Ask>,
    next_ask: usize,
}

/// Who issued an invocation, with which of its calls, for which company.
struct Issued {
    host: usize,
    call: u64,
    company: &'static str,
}

pub struct World {
    multiplexer: Arc<Multiplexer>,
    random: Random,
    fault: Fault,
    hosts: BTreeMap<usize, Attached>,
    next_host: usize,
    running: Option<Running>,
    issued: HashMap<String, Issued>,
    /// Hosts that a request of the worker came to, by its token.
    seen: HashMap<String, BTreeSet<usize>>,
    next_token: usize,
    /// Numbers the lines of all workers, in the order in which they are written.
    lines: u64,
    /// A result that a fault kept back.
    late: Option<Response>,
    next_event: usize,
    next_slot: usize,
    /// Events that some worker heard.
    heard: HashSet<String>,
    /// Slots that some worker ran.
    ran: HashSet<String>,
    /// Results that hosts got, by slot.
    joined: HashMap<String, usize>,
    /// What the shim keeps for a sidecar to come.
    told: Arc<Mutex<DeliveredKeys>>,
    pub counts: Counts,
}

type Checked = Result<(), String>;

impl World {
    pub fn new(seed: u64, fault: Fault) -> Self {
        let told = Arc::default();
        Self {
            multiplexer: sidecar(&told),
            random: Random::new(seed),
            fault,
            hosts: BTreeMap::new(),
            next_host: 1,
            running: None,
            issued: HashMap::new(),
            seen: HashMap::new(),
            next_token: 1,
            lines: 0,
            late: None,
            next_event: 1,
            next_slot: 1,
            heard: HashSet::new(),
            ran: HashSet::new(),
            joined: HashMap::new(),
            told,
            counts: Counts::default(),
        }
    }

    /// Something happens, and everything that came of it is checked.
    pub async fn step(&mut self) -> Checked {
        match self.random.below(100) {
            0..=23 => self.host_calls().await,
            24..=26 => self.host_tells_event().await,
            27..=29 => self.host_runs_job().await,
            30..=49 => self.worker_answers().await,
            50..=67 => self.worker_asks().await,
            68..=84 => self.host_answers().await,
            85..=88 => self.host_tells().await,
            89..=92 => self.worker_tells().await,
            93..=94 => self.join(),
            95 if self.random.once_in(2) => self.leave().await,
            96 if self.random.once_in(4) => self.crash(),
            99 if self.random.once_in(3) => self.replace_sidecar(),
            97 if self.running.is_none() => self.start(),
            98 => tokio::time::sleep(SHORT).await,
            99 => self.limit(),
            _ => {}
        }
        for _ in 0..self.random.below(6) {
            tokio::task::yield_now().await;
        }
        self.check().await
    }

    /// Answers what can be answered and lets time end the rest.
    pub async fn finish(&mut self) -> Checked {
        if self.running.is_none() {
            self.start();
        }
        self.join();
        let deadline = Instant::now() + PATIENCE;
        while self.is_any_open() && Instant::now() < deadline {
            for _ in 0..MOST_OPEN {
                self.worker_answers().await;
                self.host_answers().await;
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(SHORT).await;
            self.check().await?;
        }
        let hosts = self.hosts.values();
        let open: Vec<&String> = hosts
            .flat_map(|host| host.made.values().map(|made| &made.token))
            .collect();
        if !open.is_empty() {
            return Err(format!("calls of hosts never ended: {open:?}"));
        }
        let running = self.running.as_ref().expect("it was started");
        let asks = running.asks.values().filter(|ask| !ask.may_be_lost);
        let open: Vec<&String> = asks.map(|ask| &ask.token).collect();
        if !open.is_empty() {
            return Err(format!("calls of the worker never ended: {open:?}"));
        }
        Ok(())
    }

    /// What came of the steps so far: how often what happened, and which random number is next.
    pub fn into_fingerprint(mut self) -> String {
        format!("{:?}, then {:x}", self.counts, self.random.next())
    }

    /// Notes a call that no host makes, as if its request had been lost.
    pub fn lose_a_call(&mut self) {
        self.join();
        for host in self.hosts.values_mut() {
            let made = Made {
                token: "lost".into(),
                invocation: None,
            };
            host.made.insert(u64::MAX, made);
        }
    }

    fn is_any_open(&self) -> bool {
        self.hosts.values().any(|host| !host.made.is_empty())
            || self
                .running
                .as_ref()
                .is_some_and(|running| running.asks.values().any(|ask| !ask.may_be_lost))
    }

    fn token(&mut self, from: &str) -> String {
        self.next_token += 1;
        format!("{from}-{}", self.next_token)
    }

    fn any_host(&mut self) -> Option<usize> {
        let hosts: Vec<usize> = self.hosts.keys().copied().collect();
        self.random.pick(&hosts).copied()
    }

    fn join(&mut self) {
        if self.hosts.len() < MOST_HOSTS {
            let number = self.next_host;
            self.next_host += 1;
            let attached = Attached {
                host: Host::attach(&self.multiplexer, &number.to_string()),
                said: 0,
                heard: 0,
                next_id: 1,
                made: HashMap::new(),
                asked: Vec::new(),
            };
            self.hosts.insert(number, attached);
            self.counts.joins += 1;
        }
    }

    async fn leave(&mut self) {
        let Some(number) = self.any_host() else {
            return;
        };
        let Some(gone) = self.hosts.remove(&number) else {
            return;
        };
        self.counts.leaves += 1;
        if self.random.once_in(2) {
            let shutdown = Request {
                id: u64::MAX,
                method: "shutdown".into(),
                ..Request::default()
            };
            send(&gone.host, session_request::Frame::Request(shutdown)).await;
        }
    }

    fn start(&mut self) {
        self.running = Some(Running {
            worker: Worker::start(&self.multiplexer),
            heard: HashMap::new(),
            got: Vec::new(),
            asks: HashMap::new(),
            next_ask: 1,
        });
        self.multiplexer.serve();
    }

    fn crash(&mut self) {
        if self.running.take().is_some() {
            self.counts.crashes += 1;
            self.multiplexer.state.set_phase(Phase::Starting);
            self.multiplexer.detach_worker("the worker crashed");
            self.multiplexer.forget_subscriptions();
        }
    }

    /// Other limits hold, tight ones half of the time.
    fn limit(&mut self) {
        let is_tight = self.random.once_in(2);
        self.multiplexer.gate.set(Limits {
            concurrency: is_tight.then(|| 1 + self.random.below(20) as u32),
            queue: is_tight.then(|| self.random.below(20) as u32),
            ..Limits::default()
        });
    }

    /// The sidecar is killed, and the next one takes the worker over from the shim. Hosts lose
    /// their sessions with it, and dial again.
    fn replace_sidecar(&mut self) {
        self.counts.sidecars += 1;
        let hosts = std::mem::take(&mut self.hosts).len();
        let earlier = self.multiplexer.remembered();
        self.multiplexer = sidecar(&self.told);
        if self.fault != Fault::Forgotten {
            let told = self.told.lock().unwrap().keys();
            self.multiplexer.restore_delivered(&told);
        }
        if let Some(running) = &mut self.running {
            self.counts.adopted += 1;
            self.multiplexer.restore(earlier);
            running.worker.adopt(&self.multiplexer);
            running
                .asks
                .values_mut()
                .for_each(|ask| ask.may_be_lost = true);
            self.multiplexer.serve();
        }
        for _ in 0..hosts {
            self.join();
        }
    }

    async fn host_calls(&mut self) {
        let token = self.token("call");
        let Some(number) = self.any_host() else {
            return;
        };
        let company = COMPANIES[self.random.below(COMPANIES.len())];
        let invocation = (!self.random.once_in(3)).then(|| format!("invocation-of-{token}"));
        let method = METHODS[self.random.below(METHODS.len())];
        let timeout_ms = if self.random.once_in(10) { 1 } else { 0 };
        let Some(host) = self.hosts.get_mut(&number) else {
            return;
        };
        if host.made.len() >= MOST_OPEN {
            return;
        }
        let id = host.next_id;
        host.next_id += 1;
        let mut invocation_json = Bytes::new();
        if let Some(name) = &invocation {
            let object = json!({"id": name, "scope": {"companyId": company}});
            invocation_json = object.to_string().into();
            let issued = Issued {
                host: number,
                call: id,
                company,
            };
            self.issued.insert(name.clone(), issued);
        }
        let request = Request {
            id,
            method: method.into(),
            params_json: host.numbered(number, json!({"token": token})),
            invocation_json,
            timeout_ms,
            ..Request::default()
        };
        host.made.insert(id, Made { token, invocation });
        send(&host.host, session_request::Frame::Request(request)).await;
    }

    /// One of the last events, or the next, as any host may come to tell it.
    async fn host_tells_event(&mut self) {
        let Some(number) = self.any_host() else {
            return;
        };
        let (event, is_next) = self.recent(self.next_event);
        self.next_event += usize::from(is_next);
        self.counts.events_told_again += usize::from(!is_next);
        let name = self.named(&format!("event-{event}"), number, Fault::EventsApart);
        if let Some(host) = self.hosts.get_mut(&number) {
            let told = Notification {
                method: "onEvent".into(),
                params_json: host.numbered(number, json!({"event": {"eventId": name}})),
                ..Notification::default()
            };
            send(&host.host, session_request::Frame::Notification(told)).await;
        }
    }

    /// One of the last slots, or the next, as any replica may come to run it.
    async fn host_runs_job(&mut self) {
        let Some(number) = self.any_host() else {
            return;
        };
        let (slot, is_next) = self.recent(self.next_slot);
        self.next_slot += usize::from(is_next);
        let token = format!("slot-{slot}");
        let at = self.named(&token, number, Fault::SlotsApart);
        let job = json!({"jobKey": "sync", "scheduledAt": at, "runId": number});
        let Some(host) = self.hosts.get_mut(&number) else {
            return;
        };
        if host.made.len() >= MOST_OPEN {
            return;
        }
        let id = host.next_id;
        host.next_id += 1;
        let request = Request {
            id,
            method: "runJob".into(),
            params_json: host.numbered(number, json!({"job": job, "token": token})),
            ..Request::default()
        };
        let invocation = None;
        host.made.insert(id, Made { token, invocation });
        send(&host.host, session_request::Frame::Request(request)).await;
    }

    /// A number shortly before the next one, or that one.
    fn recent(&mut self, next: usize) -> (usize, bool) {
        let back = self.random.below(RECENT).min(next - 1);
        (next - back, back == 0)
    }

    /// What a host calls something that all of them call the same, unless a fault is in it.
    fn named(&self, name: &str, host: usize, fault: Fault) -> String {
        match self.fault == fault {
            true => format!("{name}#{host}"),
            false => name.to_owned(),
        }
    }

    async fn worker_answers(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        if running.got.is_empty() {
            return;
        }
        let at = self.random.below(running.got.len());
        let Got { id, token, .. } = running.got.swap_remove(at);
        let answer = if self.random.once_in(5) {
            let error = json!({"code": -32002, "message": "it failed", "data": {"token": token}});
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        } else {
            json!({"jsonrpc": "2.0", "id": id, "result": {"token": token}})
        };
        running.say(&mut self.lines, answer.clone()).await;
        if self.random.once_in(20) {
            running.say(&mut self.lines, answer).await;
        }
        if self.random.once_in(50) {
            let unknown = json!({"jsonrpc": "2.0", "id": u64::MAX, "result": null});
            running.say(&mut self.lines, unknown).await;
        }
    }

    async fn worker_asks(&mut self) {
        let token = self.token("ask");
        let Some(running) = &mut self.running else {
            return;
        };
        let open = running.asks.values().filter(|ask| !ask.may_be_lost);
        if open.count() >= MOST_OPEN {
            return;
        }
        let invocation = match self.random.below(4) {
            0 => None,
            1 if self.random.once_in(4) => Some("invocation-of-nobody".to_owned()),
            _ => {
                let got = self.random.pick(&running.got);
                got.and_then(|got| got.invocation.clone())
            }
        };
        let company = COMPANIES[self.random.below(COMPANIES.len())];
        let names = self.random.once_in(2);
        let issued = invocation.as_ref().and_then(|name| self.issued.get(name));
        let crosses = names && issued.is_some_and(|issued| issued.company != company);
        let granted = !self.random.once_in(10);
        let mut params = json!({"token": token});
        if names {
            params["companyId"] = company.into();
        }
        // Ids begin again with each worker, as those of the SDK do.
        let id = format!("w{}", running.next_ask);
        running.next_ask += 1;
        let method = if granted { "state.get" } else { "state.set" };
        let mut line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        if let Some(name) = &invocation {
            line["paperclipInvocationId"] = name.as_str().into();
        }
        let ask = Ask {
            token,
            invocation,
            crosses,
            granted,
            may_be_lost: false,
            leaves: self.counts.leaves,
        };
        running.asks.insert(id, ask);
        running.say(&mut self.lines, line).await;
    }

    async fn host_answers(&mut self) {
        let Some(number) = self.any_host() else {
            return;
        };
        let Some(host) = self.hosts.get_mut(&number) else {
            return;
        };
        if host.asked.is_empty() {
            return;
        }
        let at = self.random.below(host.asked.len());
        let (id, token) = host.asked.swap_remove(at);
        let outcome = match self.random.below(8) {
            0 | 1 => response::Outcome::Error(RpcError::new(
                jsonrpc::INVOCATION_SCOPE_DENIED,
                "not known here",
            )),
            2 => response::Outcome::Error(RpcError::new(jsonrpc::WORKER_ERROR, "it failed")),
            _ => {
                let result = json!({"token": token, "by": number});
                response::Outcome::ResultJson(result.to_string().into())
            }
        };
        let answer = |id| {
            session_request::Frame::Response(Response {
                id,
                outcome: Some(outcome.clone()),
            })
        };
        send(&host.host, answer(id)).await;
        if self.random.once_in(20) {
            send(&host.host, answer(id)).await;
        }
        if self.random.once_in(50) {
            send(&host.host, answer(u64::MAX)).await;
        }
    }

    async fn host_tells(&mut self) {
        let Some(number) = self.any_host() else {
            return;
        };
        if let Some(host) = self.hosts.get_mut(&number) {
            let told = Notification {
                method: "vendor.notice".into(),
                params_json: host.numbered(number, json!({})),
                ..Notification::default()
            };
            send(&host.host, session_request::Frame::Notification(told)).await;
        }
    }

    async fn worker_tells(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        let method = if self.random.once_in(2) {
            "streams.emit"
        } else {
            "execute.log"
        };
        let mut line = json!({"jsonrpc": "2.0", "method": method, "params": {}});
        let got = self.random.pick(&running.got);
        if let Some(name) = got.and_then(|got| got.invocation.as_deref()) {
            line["paperclipInvocationId"] = name.into();
        }
        running.say(&mut self.lines, line).await;
    }

    /// Takes what came everywhere and holds it against the ledger. Answers first: whether
    /// a call was open decides where a request of the worker may go.
    async fn check(&mut self) -> Checked {
        let mut requests = Vec::new();
        let mut told = Vec::new();
        let mut answers = Vec::new();
        let numbers: Vec<usize> = self.hosts.keys().copied().collect();
        for number in &numbers {
            let Some(host) = self.hosts.get_mut(number) else {
                continue;
            };
            while let Ok(SessionResponse { frame: Some(frame) }) = host.host.frames.try_recv() {
                let asks = self.running.as_ref().map(|running| &running.asks);
                let is_late = |token: &str| {
                    let ask = asks.and_then(|asks| asks.values().find(|ask| ask.token == token));
                    ask.is_none_or(|ask| ask.leaves != self.counts.leaves)
                        || self.seen.contains_key(token)
                };
                if let Some(line) = line_of(&frame, is_late) {
                    if line < host.heard {
                        return Err(format!(
                            "line {line} of the worker came to host {number} after line {}: {frame:?}",
                            host.heard
                        ));
                    }
                    host.heard = line;
                }
                match frame {
                    session_response::Frame::Response(response) => {
                        answers.push((*number, response));
                    }
                    session_response::Frame::Request(request) => requests.push((*number, request)),
                    session_response::Frame::Notification(notice) => told.push((*number, notice)),
                    session_response::Frame::Ping(ping) => {
                        let pong = Pong { nonce: ping.nonce };
                        send(&host.host, session_request::Frame::Pong(pong)).await;
                    }
                    _ => {}
                }
            }
        }
        self.spoil(&mut answers);
        for (number, response) in answers {
            self.answer_came(number, response)?;
        }
        for (number, request) in requests {
            self.request_came(number, request)?;
        }
        for (number, notice) in told {
            self.notice_came(number, &notice)?;
        }
        self.lines_came()
    }

    /// Does to the answers what a fault would.
    fn spoil(&mut self, answers: &mut Vec<(usize, Response)>) {
        if self.fault == Fault::None || answers.is_empty() || !self.random.once_in(5) {
            return;
        }
        let at = self.random.below(answers.len());
        match self.fault {
            Fault::None | Fault::EventsApart | Fault::SlotsApart | Fault::Forgotten => {}
            Fault::WrongHost => {
                if let Some(other) = self.any_host() {
                    answers[at].0 = other;
                }
            }
            Fault::Twice => answers.push(answers[at].clone()),
            Fault::OtherOutcome => {
                let is_result = |outcome: &response::Outcome| {
                    matches!(outcome, response::Outcome::ResultJson(_))
                };
                if answers[at].1.outcome.as_ref().is_some_and(is_result) {
                    let late = self.late.replace(answers[at].1.clone());
                    answers[at].1.outcome =
                        late.map_or(answers[at].1.outcome.clone(), |late| late.outcome);
                }
            }
        }
    }

    fn answer_came(&mut self, number: usize, response: Response) -> Checked {
        let Some(host) = self.hosts.get_mut(&number) else {
            return Ok(());
        };
        let Some(made) = host.made.remove(&response.id) else {
            return Err(format!(
                "host {number} got an answer to no open call of its own: {response:?}"
            ));
        };
        if let Some(name) = &made.invocation {
            self.issued.remove(name);
        }
        let token = match response.outcome {
            Some(response::Outcome::ResultJson(result)) => {
                self.counts.results_at_hosts += 1;
                parsed(&result)["token"].clone()
            }
            Some(response::Outcome::Error(error)) if !TO_HOST.contains(&error.code) => {
                return Err(format!(
                    "{} ended in an error of no known type: {error:?}",
                    made.token
                ));
            }
            Some(response::Outcome::Error(error)) if error.code == jsonrpc::WORKER_ERROR => {
                self.counts.errors_at_hosts += 1;
                parsed(&error.data_json)["token"].clone()
            }
            Some(response::Outcome::Error(error)) => {
                self.counts.slots_lost += usize::from(self.ran.contains(&made.token));
                self.counts.timeouts_at_hosts += usize::from(error.code == jsonrpc::TIMEOUT);
                let is_limit = error.code == jsonrpc::LIMIT_EXCEEDED;
                self.counts.limits_at_hosts += usize::from(is_limit);
                return Ok(());
            }
            None => return Err(format!("{} was answered with nothing", made.token)),
        };
        if token == made.token {
            if self.ran.contains(&made.token) {
                let results = self.joined.entry(made.token).or_default();
                *results += 1;
                self.counts.slots_joined += usize::from(*results > 1);
            }
            return Ok(());
        }
        Err(format!("{} was answered with {token}", made.token))
    }

    fn request_came(&mut self, number: usize, request: Request) -> Checked {
        let token = parsed(&request.params_json)["token"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let before = self.seen.entry(token.clone()).or_default();
        let is_again = !before.insert(number);
        let moved_on = before.len() > 1;
        self.counts.refusals_moved_on += usize::from(moved_on);
        let ask = self
            .running
            .as_ref()
            .and_then(|running| running.asks.values().find(|ask| ask.token == token));
        if let Some(host) = self.hosts.get_mut(&number) {
            host.asked.push((request.id, token.clone()));
        }
        if is_again {
            return Err(format!("{token} came to host {number} twice"));
        }
        let Some(ask) = ask else {
            // Of a worker that is gone, or answered already.
            return Ok(());
        };
        if !ask.granted {
            return Err(format!("{token} came to host {number} without a grant"));
        }
        let Some((issued, _)) = self.open_invocation(ask) else {
            return Ok(());
        };
        if ask.crosses {
            return Err(format!("{token} came to host {number} across companies"));
        }
        if issued != number || moved_on {
            return Err(format!("{token} of host {issued} came to host {number}"));
        }
        Ok(())
    }

    /// The host and call of an ask's invocation, while that call is open.
    fn open_invocation(&self, ask: &Ask) -> Option<(usize, u64)> {
        let issued = self.issued.get(ask.invocation.as_ref()?)?;
        let host = self.hosts.get(&issued.host)?;
        host.made
            .contains_key(&issued.call)
            .then_some((issued.host, issued.call))
    }

    fn notice_came(&mut self, number: usize, notice: &Notification) -> Checked {
        self.counts.told += 1;
        match self.issued.get(&notice.invocation_id) {
            Some(issued) if issued.host != number && self.hosts.contains_key(&issued.host) => {
                Err(format!(
                    "{} of host {} came to host {number} with its invocation",
                    notice.method, issued.host
                ))
            }
            _ => Ok(()),
        }
    }

    fn lines_came(&mut self) -> Checked {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let mut ended = Vec::new();
        while let Ok(line) = running.worker.stdin.try_recv() {
            // A sidecar that takes over ends the line that the last one may have left half written.
            if line.is_empty() {
                continue;
            }
            let message: Value = serde_json::from_str(&line)
                .map_err(|error| format!("the worker was sent {line:?}: {error}"))?;
            running.check_order(&message)?;
            if message["method"] == "onEvent" {
                let name = message["params"]["event"]["eventId"].as_str();
                let name = plain(name.unwrap_or_default());
                self.counts.events_heard += 1;
                if !self.heard.insert(name.to_owned()) {
                    return Err(format!("{name} came to a worker twice"));
                }
            }
            if message["method"] == "runJob" {
                let token = message["params"]["token"].as_str().unwrap_or_default();
                self.counts.slots_run += 1;
                if !self.ran.insert(token.to_owned()) {
                    return Err(format!("{token} was run twice"));
                }
            }
            if message["method"].is_string() {
                if !message["id"].is_null() {
                    running.got.push(Got {
                        id: message["id"].clone(),
                        token: message["params"]["token"]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned(),
                        invocation: message["paperclipInvocation"]["id"]
                            .as_str()
                            .map(str::to_owned),
                    });
                }
                continue;
            }
            let id = message["id"].as_str().unwrap_or_default();
            let Some(ask) = running.asks.remove(id) else {
                return Err(format!(
                    "the worker got an answer to no open call of its own: {line}"
                ));
            };
            ended.push((ask, message));
        }
        for (ask, message) in ended {
            self.ask_ended(&ask, &message)?;
        }
        Ok(())
    }

    fn ask_ended(&mut self, ask: &Ask, message: &Value) -> Checked {
        let token = &ask.token;
        let seen = self.seen.remove(token).unwrap_or_default();
        let Some(error) = message.get("error") else {
            let result = &message["result"];
            let by = result["by"].as_u64().unwrap_or_default() as usize;
            if result["token"] != token.as_str() || !seen.contains(&by) {
                return Err(format!(
                    "{token} was answered with {result}, asked were {seen:?}"
                ));
            }
            self.counts.results_at_worker += 1;
            return if ask.granted {
                Ok(())
            } else {
                Err(format!("{token} was answered without a grant"))
            };
        };
        let code = error["code"]
            .as_i64()
            .and_then(|code| i32::try_from(code).ok())
            .unwrap_or_default();
        self.counts.errors_at_worker += 1;
        match code {
            jsonrpc::CAPABILITY_DENIED if ask.granted => {
                Err(format!("{token} was denied a granted capability"))
            }
            jsonrpc::CAPABILITY_DENIED => {
                self.counts.denied_for_capability += 1;
                Ok(())
            }
            jsonrpc::INVOCATION_SCOPE_DENIED if ask.crosses && seen.is_empty() => {
                self.counts.denied_for_company += 1;
                Ok(())
            }
            _ if !TO_WORKER.contains(&code) => Err(format!(
                "{token} ended in an error of no known type: {error}"
            )),
            _ => Ok(()),
        }
    }
}

impl Attached {
    /// Params with the host's number and that of the message in them.
    fn numbered(&mut self, number: usize, mut params: Value) -> Bytes {
        self.said += 1;
        params["by"] = number.into();
        params["said"] = self.said.into();
        params.to_string().into()
    }
}

impl Running {
    /// Whether what a host said comes after what it said before, calls and notifications apart.
    fn check_order(&mut self, message: &Value) -> Checked {
        let params = &message["params"];
        let (Some(by), Some(said)) = (params["by"].as_u64(), params["said"].as_u64()) else {
            return Ok(());
        };
        let is_call = !message["id"].is_null();
        let before = self.heard.insert((by as usize, is_call), said);
        match before {
            Some(before) if before > said => Err(format!(
                "what host {by} said as number {said} came to the worker after number {before}"
            )),
            _ => Ok(()),
        }
    }

    /// Writes a line, with its number in it.
    async fn say(&mut self, lines: &mut u64, mut message: Value) {
        *lines += 1;
        for place in ["/params", "/result", "/error/data"] {
            if let Some(Value::Object(place)) = message.pointer_mut(place) {
                place.insert("line".into(), (*lines).into());
            }
        }
        let line = format!("{message}\n");
        let written = self.worker.stdout.write_all(line.as_bytes()).await;
        written.expect("the multiplexer reads while the worker lives");
    }
}

/// The number of the worker's line that a frame is, where it has to keep its place: not where it
/// went to another host before, and not the outcome of a run that others joined.
fn line_of(frame: &session_response::Frame, is_late: impl Fn(&str) -> bool) -> Option<u64> {
    let value = match frame {
        session_response::Frame::Request(request) => {
            let params = parsed(&request.params_json);
            if is_late(params["token"].as_str().unwrap_or_default()) {
                return None;
            }
            params
        }
        session_response::Frame::Notification(told) => parsed(&told.params_json),
        session_response::Frame::Response(response) => match response.outcome.as_ref()? {
            response::Outcome::ResultJson(result) => parsed(result),
            response::Outcome::Error(error) => parsed(&error.data_json),
        },
        _ => return None,
    };
    let is_run = |token: &Value| {
        token
            .as_str()
            .is_some_and(|token| token.starts_with("slot-"))
    };
    match is_run(&value["token"]) {
        true => None,
        false => value["line"].as_u64(),
    }
}

/// Sends a frame; a session that has ended takes none.
async fn send(host: &Host, frame: session_request::Frame) {
    let _ = host.requests.send(Ok(SessionRequest::from(frame))).await;
}

/// A sidecar whose shim keeps `told`.
fn sidecar(told: &Arc<Mutex<DeliveredKeys>>) -> Arc<Multiplexer> {
    let grant = ["plugin.state.read", "events.subscribe"];
    let multiplexer = Multiplexer::new(Grants::of(grant));
    let told = told.clone();
    multiplexer.keep_delivered(move |keys| {
        told.lock().unwrap().add(keys);
        true
    });
    multiplexer
}

/// A name without what a fault put behind it.
fn plain(name: &str) -> &str {
    name.split('#').next().unwrap_or(name)
}

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}
