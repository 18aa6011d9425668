//! CPU and memory of the worker's container, from what the plugin asks for. Pure.

use k8s_openapi::api::core::v1::ResourceRequirements;
use paperclip_crds::v1alpha1::WorkerResources;

use super::pod;

/// Requests and limits where the plugin says nothing.
const CPU: [&str; 2] = ["50m", "1"];
const MEMORY: [&str; 2] = ["128Mi", "512Mi"];

/// Requests and limits of the container. The API server refuses a request above its limit, so
/// such a request is the limit.
#[must_use]
pub fn of_worker(asked: &WorkerResources) -> ResourceRequirements {
    let [cpu, memory] = [
        (
            &asked.requests.cpu,
            &asked.limits.cpu,
            CPU,
            millicores as fn(&str) -> u64,
        ),
        (
            &asked.requests.memory,
            &asked.limits.memory,
            MEMORY,
            mebibytes,
        ),
    ]
    .map(|(request, limit, [least, most], size)| {
        let request = request.as_deref();
        let limit = limit.as_deref().unwrap_or_else(|| {
            // A request above the limit by default moves that limit.
            request
                .filter(|asked| size(asked) > size(most))
                .unwrap_or(most)
        });
        let request = request.unwrap_or(least);
        let request = if size(request) > size(limit) {
            limit
        } else {
            request
        };
        [request.to_owned(), limit.to_owned()]
    });
    pod::memory(&cpu[0], &cpu[1], &memory[0], &memory[1])
}

/// The memory limit in bytes that Node's heap limit follows. None where the limit is the default:
/// Node finds that by itself.
#[must_use]
pub fn heap_follows(asked: &WorkerResources) -> Option<u64> {
    let is_asked = asked.limits.memory.is_some() || asked.requests.memory.is_some();
    let limits = of_worker(asked).limits.filter(|_| is_asked)?;
    Some(mebibytes(&limits.get("memory")?.0) * 1024 * 1024)
}

/// The schema admits `2` and `250m`.
fn millicores(text: &str) -> u64 {
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().unwrap_or(0),
        None => text.parse().unwrap_or(0) * 1000,
    }
}

/// The schema admits `256Mi` and `2Gi`.
fn mebibytes(text: &str) -> u64 {
    let number = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = number.parse().unwrap_or(0);
    match text.ends_with("Gi") {
        true => number * 1024,
        false => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_crds::v1alpha1::ResourceAmounts;

    fn amounts(cpu: &str, memory: &str) -> ResourceAmounts {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ResourceAmounts {
            cpu: given(cpu),
            memory: given(memory),
        }
    }

    /// Request and limit of cpu, then of memory.
    fn of(requests: ResourceAmounts, limits: ResourceAmounts) -> String {
        let found = of_worker(&WorkerResources { requests, limits });
        let [requests, limits] = [found.requests, found.limits].map(Option::unwrap);
        format!(
            "{} {} {} {}",
            requests["cpu"].0, limits["cpu"].0, requests["memory"].0, limits["memory"].0
        )
    }

    #[test]
    fn what_is_not_asked_for_is_as_before() {
        assert_eq!(of(amounts("", ""), amounts("", "")), "50m 1 128Mi 512Mi");
        assert_eq!(of(amounts("", ""), amounts("2", "1Gi")), "50m 2 128Mi 1Gi");
    }

    #[test]
    fn a_request_is_never_above_its_limit() {
        assert_eq!(
            of(amounts("", ""), amounts("20m", "64Mi")),
            "20m 20m 64Mi 64Mi"
        );
        assert_eq!(
            of(amounts("1500m", "1Gi"), amounts("", "")),
            "1500m 1500m 1Gi 1Gi"
        );
        assert_eq!(of(amounts("2", "2Gi"), amounts("1", "1Gi")), "1 1 1Gi 1Gi");
    }

    #[test]
    fn the_heap_follows_a_limit_that_is_asked_for() {
        assert_eq!(heap_follows(&WorkerResources::default()), None);
        let asked = WorkerResources {
            limits: amounts("", "256Mi"),
            ..WorkerResources::default()
        };
        assert_eq!(heap_follows(&asked), Some(268_435_456));
    }
}
