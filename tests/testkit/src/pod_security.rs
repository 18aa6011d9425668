//! Pod Security as tests check it.

use k8s_openapi::api::core::v1::PodSpec;

/// The rules of Pod Security `restricted`, and ours: no token, no writable root, no user.
///
/// # Panics
/// When the pod breaks one of them.
pub fn assert_restricted(pod: &PodSpec) {
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert!(!pod.host_network.unwrap_or(false) && !pod.host_pid.unwrap_or(false));
    let context = pod.security_context.as_ref().unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.run_as_user, None);
    assert_eq!(
        context.seccomp_profile.as_ref().unwrap().type_,
        "RuntimeDefault"
    );
    for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
        let context = container.security_context.as_ref().unwrap();
        assert_eq!(
            context.allow_privilege_escalation,
            Some(false),
            "{}",
            container.name
        );
        assert_eq!(
            context.read_only_root_filesystem,
            Some(true),
            "{}",
            container.name
        );
        let capabilities = context.capabilities.as_ref().unwrap();
        assert_eq!(
            capabilities.drop,
            Some(vec!["ALL".to_owned()]),
            "{}",
            container.name
        );
        let resources = container.resources.as_ref().unwrap();
        assert!(
            resources.requests.is_some() && resources.limits.is_some(),
            "{}",
            container.name
        );
    }
    for volume in pod.volumes.iter().flatten() {
        assert!(volume.host_path.is_none(), "{}", volume.name);
    }
}
