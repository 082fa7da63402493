//! Pods as the API server tells of them: which are ready, and which will never be.

use anyhow::anyhow;
use serde_json::Value;

/// Reasons for which a container waits until somebody brings the image, or the registry can be reached.
const NO_IMAGE: [&str; 3] = ["ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"];

/// Says whether a pod is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    })
}

/// Returns an error that says what to do when a node has no image for one of these pods and cannot fetch it.
pub(crate) fn without_an_image(pods: &[Value]) -> Option<anyhow::Error> {
    let containers = pods.iter().flat_map(|pod| {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or("a node");
        let statuses = pod["status"]["containerStatuses"].as_array();
        statuses.into_iter().flatten().map(move |status| (node, status))
    });
    let mut hopeless = containers.filter_map(|(node, status)| {
        let waiting = &status["state"]["waiting"];
        let reason = waiting["reason"].as_str()?;
        NO_IMAGE.contains(&reason).then(|| {
            anyhow!(
                "{node} has no image {} ({reason}: {})\n\
                 hint: cargo xtask demo --save-images DIR writes the images and says how to give them to nodes or to a \
                 registry; with a registry, name its repository: --images REPOSITORY",
                status["image"].as_str().unwrap_or_default(),
                waiting["message"].as_str().unwrap_or_default(),
            )
        })
    });
    hopeless.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_that_waits_for_an_image_is_hopeless_and_one_that_starts_is_not() {
        let waits = |reason: &str| {
            json!({
                "spec": {"nodeName": "node1"},
                "status": {"containerStatuses": [
                    {"image": "docker.io/local/shop:1", "state": {"waiting": {"reason": reason}}},
                ]},
            })
        };
        assert!(without_an_image(&[waits("ContainerCreating"), waits("ErrImagePull")]).is_none());
        let error = without_an_image(&[waits("ContainerCreating"), waits("ErrImageNeverPull")]);
        let error = error.expect("it waits in vain").to_string();
        assert!(error.contains("node1 has no image docker.io/local/shop:1"), "{error}");
    }
}
