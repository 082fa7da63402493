//! A cluster in memory, for tests: as much of the API as this crate asks, and the moments in between at which a test
//! may be somebody else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::fake_fields as fields;
use crate::names::FIELD_MANAGER;

/// Objects by path.
pub(crate) type Objects = BTreeMap<String, Value>;
type Deed = Box<dyn FnOnce(&mut Objects) + Send>;
type Controller = Box<dyn Fn(&mut Objects) + Send>;
type Judge = Box<dyn FnMut(&Value) -> Option<u16> + Send>;

#[derive(Clone, Default)]
pub(crate) struct FakeCluster(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    objects: Objects,
    version: u64,
    once: Vec<(&'static str, Deed)>,
    controller: Option<Controller>,
    judge: Option<Judge>,
    silent_on: Option<&'static str>,
    asked: Vec<String>,
}

impl FakeCluster {
    pub(crate) fn client(&self) -> Client {
        let cluster = self.clone();
        let answer = move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                if cluster.inner().silent_on.is_some_and(|method| head.method == method) {
                    std::future::pending::<()>().await;
                }
                let (code, answer) = cluster.inner().answer(&head.method, &head.uri, body);
                let answer = Body::from(serde_json::to_vec(&answer).expect("JSON"));
                let answer = Response::builder().status(code).body(answer).expect("a response");
                Ok::<_, kube::Error>(answer)
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.inner().store(path, object);
    }

    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path);
        change(&mut object);
        self.put(path, object);
    }

    /// Returns the object at `path`; null when there is none.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.inner().objects.get(path).cloned().unwrap_or_default()
    }

    /// Has somebody do something just before the next request of this method is served.
    pub(crate) fn once_before(
        &self,
        method: &'static str,
        deed: impl FnOnce(&mut Objects) + Send + 'static,
    ) {
        self.inner().once.push((method, Box::new(deed)));
    }

    /// Has a controller follow every write.
    pub(crate) fn follows(&self, controller: impl Fn(&mut Objects) + Send + 'static) {
        self.inner().controller = Some(Box::new(controller));
    }

    /// Has patches refused with the code that `judge` says, given what the object would be.
    pub(crate) fn refuses(&self, judge: impl FnMut(&Value) -> Option<u16> + Send + 'static) {
        self.inner().judge = Some(Box::new(judge));
    }

    /// Refuses nothing any more.
    pub(crate) fn relents(&self) {
        self.inner().judge = None;
    }

    /// Answers no request of this method any more, and does nothing of what it asks.
    pub(crate) fn falls_silent_on(&self, method: &'static str) {
        self.inner().silent_on = Some(method);
    }

    /// Has a person change an object with this tool, and own what they changed.
    pub(crate) fn edits(&self, path: &str, manager: &str, change: impl FnOnce(&mut Value)) {
        let before = self.get(path);
        let mut after = before.clone();
        change(&mut after);
        fields::follow(&before, &mut after, manager);
        self.put(path, after);
    }

    /// Returns every request so far, as method and path.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner().asked.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn store(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object);
    }

    /// Gives new versions to what changed behind the API's back.
    fn let_somebody(&mut self, act: impl FnOnce(&mut Objects)) {
        let before = self.objects.clone();
        act(&mut self.objects);
        for (path, object) in self.objects.clone() {
            if before.get(&path) != Some(&object) {
                self.store(&path, object);
            }
        }
    }

    fn answer(&mut self, method: &Method, uri: &http::Uri, body: Value) -> (u16, Value) {
        let path = uri.path().to_owned();
        self.asked.push(format!("{method} {path}"));
        if let Some(at) = self.once.iter().position(|(when, _)| method.as_str() == *when) {
            let (_, deed) = self.once.remove(at);
            self.let_somebody(deed);
        }
        let answer = match *method {
            Method::GET => self.read(&path, uri.query().unwrap_or_default()),
            Method::PATCH => self.patch(&path, uri.query().unwrap_or_default(), body),
            Method::PUT => self.replace(&path, body),
            Method::DELETE => self.delete(&path, &body),
            _ => self.create(&path, body),
        };
        if *method != Method::GET
            && let Some(controller) = self.controller.take()
        {
            self.let_somebody(&controller);
            self.controller = Some(controller);
        }
        answer
    }

    fn read(&self, path: &str, query: &str) -> (u16, Value) {
        if let Some(object) = self.objects.get(path) {
            return (200, object.clone());
        }
        if path.rsplit('/').next().is_some_and(|last| !last.ends_with('s') || last.contains('-')) {
            return refusal(404);
        }
        let kind = path.rsplit('/').next().expect("a path");
        let namespace = path.split_once("/namespaces/").map(|(_, rest)| rest.split('/').next());
        let is_listed = |at: &&String| {
            at.contains(&format!("/{kind}/"))
                && namespace.flatten().is_none_or(|ns| at.contains(&format!("/namespaces/{ns}/")))
        };
        let selected = |object: &Value| selects(query, &object["metadata"]["labels"]);
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(at, object)| is_listed(at) && selected(object))
            .map(|(_, object)| object.clone())
            .collect();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        (200, json!({"metadata": metadata, "items": items}))
    }

    fn patch(&mut self, path: &str, query: &str, body: Value) -> (u16, Value) {
        let Some(mut object) = self.objects.get(path).cloned() else { return refusal(404) };
        let patch: json_patch::Patch = serde_json::from_value(body).expect("a JSON patch");
        let before = object.clone();
        if json_patch::patch(&mut object, &patch).is_err() {
            return refusal(422);
        }
        fields::follow(&before, &mut object, FIELD_MANAGER);
        if let Some(code) = self.judge.as_mut().and_then(|judge| judge(&object)) {
            return refusal(code);
        }
        if query.contains("dryRun=All") {
            return (200, object);
        }
        self.store(path, object);
        (200, self.objects[path].clone())
    }

    fn replace(&mut self, path: &str, body: Value) -> (u16, Value) {
        let Some(current) = self.objects.get(path) else { return refusal(404) };
        let version = &body["metadata"]["resourceVersion"];
        if !version.is_null() && *version != current["metadata"]["resourceVersion"] {
            return refusal(409);
        }
        self.store(path, body);
        (200, self.objects[path].clone())
    }

    fn create(&mut self, path: &str, body: Value) -> (u16, Value) {
        let name = body["metadata"]["name"].as_str().unwrap_or("generated").to_owned();
        let path = format!("{path}/{name}");
        if self.objects.contains_key(&path) {
            return refusal(409);
        }
        self.store(&path, body);
        (201, self.objects[&path].clone())
    }

    fn delete(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let Some(object) = self.objects.get(path) else { return refusal(404) };
        let uid = &body["preconditions"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return refusal(409);
        }
        self.objects.remove(path);
        (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 200}))
    }
}

fn refusal(code: u16) -> (u16, Value) {
    let message = format!("refused with {code}");
    let (status, reason) = ("Failure", "Refused");
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status, "code": code, "message": message, "reason": reason}),
    )
}

/// Equality and existence, joined by commas: all that this crate asks for.
fn selects(query: &str, labels: &Value) -> bool {
    let asked = query.split('&').find_map(|part| part.strip_prefix("labelSelector="));
    let decoded = asked.unwrap_or_default().replace("%2F", "/").replace("%3D", "=");
    decoded.replace("%2C", ",").split(',').filter(|term| !term.is_empty()).all(|term| {
        match term.split_once('=') {
            Some((key, value)) => labels[key] == value,
            None => labels[term].is_string(),
        }
    })
}
