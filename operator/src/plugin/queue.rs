//! The queue of packing Jobs: no more at once than the platform allows. Namespaces take turns, so
//! that one with many requests does not keep another's first waiting; a namespace's own requests go
//! in the order they were asked for. The order is kept in memory, and begins anew with the operator.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::batch::v1::Job,
    jiff::{SignedDuration, Timestamp},
};
use kube::runtime::reflector::ObjectRef;
use paperclip_crds::v1alpha1::PaperclipPlugin;

/// Who did not ask for so long has gone: a plugin that waits asks every 15 s.
const GONE: SignedDuration = SignedDuration::from_secs(60);

/// A request that waits, and a plugin that waits for it.
struct Waiting {
    request: String,
    plugin: ObjectRef<PaperclipPlugin>,
    asked: Timestamp,
}

/// Requests that wait, the oldest first.
#[derive(Default)]
pub struct Queue {
    waiting: Vec<Waiting>,
    /// How many requests had begun when one of this namespace did last. Empty once nobody waits.
    began: BTreeMap<Option<String>, usize>,
}

/// Whether a request may begin.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may, and is no longer in the queue.
    Now,
    /// It waits until so many others have begun.
    After(usize),
}

impl Queue {
    /// Asks for a turn, while `running` Jobs of at most `limit` run.
    pub fn ask(
        &mut self,
        request: &str,
        plugin: ObjectRef<PaperclipPlugin>,
        (running, limit): (usize, usize),
        now: Timestamp,
    ) -> Turn {
        self.waiting
            .retain(|one| now.duration_since(one.asked).abs() < GONE);
        let known = self.waiting.iter().position(|one| one.request == request);
        let index = known.unwrap_or_else(|| {
            self.waiting.push(Waiting {
                request: request.to_owned(),
                plugin,
                asked: now,
            });
            self.waiting.len() - 1
        });
        self.waiting[index].asked = now;
        let turns = self.turns().into_iter();
        let before = turns.take_while(|turn| *turn != index).count();
        if running + before < limit {
            self.begin(index);
            return Turn::Now;
        }
        Turn::After(before)
    }

    fn begin(&mut self, index: usize) {
        let began = self.waiting.remove(index);
        let number = self.began.values().max().map_or(1, |last| last + 1);
        self.began.insert(began.plugin.namespace, number);
        if self.waiting.is_empty() {
            self.began.clear();
        }
    }

    /// Indices of requests in the order of their turns: the first of each namespace, then the
    /// second of each, and so on; among those, the namespace that waited longest for its turn.
    fn turns(&self) -> Vec<usize> {
        let mut of_namespace = BTreeMap::new();
        let mut turns = Vec::new();
        for (index, one) in self.waiting.iter().enumerate() {
            let namespace = &one.plugin.namespace;
            let before = of_namespace.entry(namespace).or_insert(0);
            let began = self.began.get(namespace).copied().unwrap_or_default();
            turns.push((*before, began, index));
            *before += 1;
        }
        turns.sort_unstable();
        turns.into_iter().map(|(.., index)| index).collect()
    }

    /// Plugins to look at when Jobs end: those whose turn is next.
    pub fn first(&self, count: usize) -> impl Iterator<Item = &ObjectRef<PaperclipPlugin>> {
        let turns = self.turns().into_iter().take(count);
        turns.map(|index| &self.waiting[index].plugin)
    }
}

/// Whether a Job has a pod now, or will at once. One that waits to be tried again lets others go
/// before.
#[must_use]
pub fn runs(job: &Job) -> bool {
    let Some(status) = &job.status else {
        return true;
    };
    let ended = |one: &&k8s_openapi::api::batch::v1::JobCondition| {
        ["Complete", "Failed"].contains(&one.type_.as_str()) && one.status == "True"
    };
    if status.conditions.iter().flatten().any(|one| ended(&one)) {
        return false;
    }
    let tried = status.failed.unwrap_or(0) + status.succeeded.unwrap_or(0);
    status.active.unwrap_or(0) > 0 || tried == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ask(queue: &mut Queue, request: &str, running: usize, second: i64) -> Turn {
        ask_from(queue, "shop", request, running, second)
    }

    fn ask_from(
        queue: &mut Queue,
        namespace: &str,
        request: &str,
        running: usize,
        second: i64,
    ) -> Turn {
        let now = Timestamp::from_second(1_000 + second).unwrap();
        let plugin = ObjectRef::new(request).within(namespace);
        queue.ask(request, plugin, (running, 2), now)
    }

    #[test]
    fn a_namespace_with_many_requests_does_not_keep_the_first_of_another_waiting() {
        let mut queue = Queue::default();
        for (before, request) in ["a", "b", "c", "d"].iter().enumerate() {
            assert_eq!(ask(&mut queue, request, 2, 0), Turn::After(before));
        }
        assert_eq!(ask_from(&mut queue, "other", "x", 2, 1), Turn::After(1));
        assert_eq!(ask_from(&mut queue, "other", "y", 2, 1), Turn::After(3));
        let next: Vec<&str> = queue.first(9).map(|plugin| plugin.name.as_str()).collect();
        assert_eq!(next, ["a", "x", "b", "y", "c", "d"]);
        // One place is free for `a`, and the next is for the namespace that had none yet.
        assert_eq!(ask(&mut queue, "a", 1, 2), Turn::Now);
        assert_eq!(ask(&mut queue, "b", 1, 2), Turn::After(1));
        assert_eq!(ask_from(&mut queue, "other", "x", 1, 2), Turn::Now);
        assert_eq!(ask_from(&mut queue, "other", "y", 1, 2), Turn::After(1));
        assert_eq!(ask(&mut queue, "b", 1, 2), Turn::Now);
    }

    #[test]
    fn who_asked_first_goes_first() {
        let mut queue = Queue::default();
        assert_eq!(ask(&mut queue, "a", 2, 0), Turn::After(0));
        assert_eq!(ask(&mut queue, "b", 2, 1), Turn::After(1));
        // One place is free, and it is not for who asks first but for who waited longest.
        assert_eq!(ask(&mut queue, "b", 1, 2), Turn::After(1));
        assert_eq!(ask(&mut queue, "c", 1, 2), Turn::After(2));
        assert_eq!(ask(&mut queue, "a", 1, 3), Turn::Now);
        assert_eq!(ask(&mut queue, "b", 1, 4), Turn::Now);
        assert_eq!(queue.first(5).count(), 1);
    }

    #[test]
    fn who_asks_no_more_is_forgotten() {
        let mut queue = Queue::default();
        assert_eq!(ask(&mut queue, "a", 2, 0), Turn::After(0));
        assert_eq!(ask(&mut queue, "b", 1, 59), Turn::After(1));
        assert_eq!(ask(&mut queue, "b", 1, 61), Turn::Now);
    }

    #[test]
    fn a_job_counts_while_it_has_a_pod_or_will_have_its_first() {
        let job = |status: Value| serde_json::from_value::<Job>(json!({"status": status})).unwrap();
        assert!(runs(&Job::default()));
        assert!(runs(&job(json!({}))));
        assert!(runs(&job(json!({"active": 1, "failed": 1}))));
        assert!(!runs(&job(json!({"failed": 1}))), "waits to be tried again");
        let ended = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        assert!(!runs(&job(ended)));
    }
}
