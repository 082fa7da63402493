//! The chart's rights against the code that runs under each account: nothing it asks for is missing, nothing more is
//! given.
//!
//! The code is read as text, function by function: crude, but it sees a call that no right allows and a right that no
//! call uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use crate::{
    objects::{Objects, list, text},
    render::root,
};

/// Resource → verbs.
type Rights = BTreeMap<String, BTreeSet<String>>;

/// A call on an `Api`, and the verb a role has for it.
const CALLS: [(&str, &str); 9] = [
    (".get(", "get"),
    (".get_opt(", "get"),
    (".get_metadata(", "get"),
    (".get_metadata_opt(", "get"),
    (".list(", "list"),
    (".create(", "create"),
    (".patch(", "patch"),
    (".replace(", "update"),
    (".delete(", "delete"),
];

/// The Rust type → the resource's name in a role. A kind the code names and this list does not fails the test.
const KINDS: [(&str, &str); 9] = [
    ("Service", "services"),
    ("EndpointSlice", "endpointslices"),
    ("Pod", "pods"),
    ("Event", "events"),
    ("Lease", "leases"),
    ("Secret", "secrets"),
    ("Namespace", "namespaces"),
    ("ReplicaSet", "replicasets"),
    ("Job", "jobs"),
];

const AGENT: &str = "fairlead-agent";
const JANITOR: &str = "fairlead-agent-janitor";
/// The files that run under the janitor's account alone.
const JANITORS: [&str; 2] = ["janitor.rs", "restore.rs"];
/// The modules of `apply` that the janitor calls.
const WRITING: [&str; 3] = ["services", "slices", "leases"];

#[test]
fn each_account_is_given_what_its_code_asks_for_and_no_more() {
    for (account, needed) in [(AGENT, needed_by_agent()), (JANITOR, needed_by_janitor())] {
        assert!(needed.len() > 3, "the code is read the wrong way: {needed:?}");
        assert_eq!(granted(account), needed, "{account}: given, and asked for");
    }
}

#[test]
fn an_account_reads_no_secret_and_writes_no_lease_but_its_own() {
    for role in Objects::of_agent(&[]).all() {
        for rule in list(&role["rules"]) {
            let named = !list(&rule["resourceNames"]).is_empty();
            // Nobody can be given the right to create just one.
            let creates_only = list(&rule["verbs"]) == ["create"];
            for resource in list(&rule["resources"]) {
                let private = ["secrets", "leases", "namespaces"].contains(&text(resource));
                assert!(!private || named || creates_only, "{rule}");
            }
        }
    }
    assert!(!granted(JANITOR).contains_key("secrets"));
}

#[test]
fn rights_on_application_objects_end_at_the_chosen_namespaces() {
    let objects = Objects::of_agent(&["--set", "namespaces={shop,pay}"]);
    for role in objects.of_kind("ClusterRole") {
        for rule in list(&role["rules"]) {
            assert_eq!(rule["resources"], serde_json::json!(["namespaces"]), "{rule}");
            assert_eq!(rule["resourceNames"], serde_json::json!(["kube-system"]), "{rule}");
        }
    }
    let homes: BTreeSet<_> =
        objects.of_kind("Role").map(|role| text(&role["metadata"]["namespace"])).collect();
    assert_eq!(homes, ["fairlead-system", "pay", "shop"].into());
    for role in objects.of_kind("Role") {
        let (name, namespace) = (text(&role["metadata"]["name"]), &role["metadata"]["namespace"]);
        let bound = objects.of_kind("RoleBinding").any(|binding| {
            binding["metadata"]["namespace"] == *namespace && binding["roleRef"]["name"] == name
        });
        assert!(bound, "Role {name} in {namespace} is bound to nobody");
    }
}

#[test]
fn of_all_secrets_only_the_identity_can_be_read() {
    for object in Objects::of_agent(&[]).all() {
        for rule in list(&object["rules"]) {
            if list(&rule["resources"]).iter().any(|resource| resource == "secrets") {
                assert_eq!(rule["resourceNames"], serde_json::json!(["fairlead-agent-identity"]));
            }
        }
    }
}

#[test]
fn the_lease_of_the_chart_is_the_one_the_agents_hold() {
    let names = fs::read_to_string(root("agent-cluster/src/names.rs")).expect("readable");
    for lease in Objects::of_agent(&[]).of_kind("Lease") {
        let name = text(&lease["metadata"]["name"]);
        assert!(names.contains(&format!("const WRITER_LEASE: &str = \"{name}\"")), "{name}");
        assert_eq!(lease["spec"], Value::Null, "an upgrade would take it from its holder");
    }
}

#[test]
fn the_guard_speaks_of_the_names_the_code_writes() {
    let names = fs::read_to_string(root("agent-cluster/src/names.rs")).expect("readable");
    let constant = |name: &str| -> String {
        let (_, after) = names.split_once(&format!("const {name}: &str = \"")).expect("defined");
        after.split('"').next().expect("quoted").to_owned()
    };
    let objects = Objects::of_agent(&[]);
    let guards: String =
        objects.of_kind("ValidatingAdmissionPolicy").map(Value::to_string).collect();
    for name in
        ["SENTINEL", "INTERCEPTED", "INFO", "OWNER", "MANAGED_BY", "MANAGED_BY_US", "SERVICE_NAME"]
    {
        let value = constant(name);
        assert!(
            guards.contains(&format!("'{value}'")),
            "{name} is {value}; the guard knows it not"
        );
    }
    assert!(
        names.contains("20_000..=29_999") && guards.contains("20000") && guards.contains("29999")
    );
}

#[test]
fn the_guard_watches_over_both_accounts_and_knows_the_owner_that_they_write() {
    let names = fs::read_to_string(root("agent-cluster/src/names.rs")).expect("readable");
    let objects = Objects::of_agent(&[]);
    let mut guards = 0;
    for guard in objects.of_kind("ValidatingAdmissionPolicy") {
        let conditions = guard["spec"]["matchConditions"].to_string();
        for account in [AGENT, JANITOR] {
            let user = format!("'system:serviceaccount:fairlead-system:{account}'");
            assert!(conditions.contains(&user), "{conditions}");
        }
        let (_, after) = names.split_once("selector).as_str(), \"").expect("its test says it");
        let owner = after.split('"').next().expect("quoted");
        assert!(guard.to_string().contains(&format!("'{owner}")), "the guard knows not {owner}");
        guards += 1;
    }
    assert_eq!(guards, 2);
}

/// Returns what the roles that are bound to `account` allow.
fn granted(account: &str) -> Rights {
    let objects = Objects::of_agent(&[]);
    let kinds = ["RoleBinding", "ClusterRoleBinding"];
    let bindings = kinds.into_iter().flat_map(|kind| objects.of_kind(kind));
    let mut granted = Rights::new();
    for binding in bindings.filter(|b| list(&b["subjects"])[0]["name"] == account) {
        let role = &binding["roleRef"];
        for rule in list(&objects.named(text(&role["kind"]), text(&role["name"]))["rules"]) {
            for resource in list(&rule["resources"]) {
                let verbs = list(&rule["verbs"]).iter().map(|verb| text(verb).to_owned());
                granted.entry(text(resource).to_owned()).or_default().extend(verbs);
            }
        }
    }
    granted
}

fn needed_by_agent() -> Rights {
    let mut needed = Rights::new();
    visit(&root("agent-cluster/src"), &mut |file, code| {
        if !JANITORS.contains(&file) {
            ask(&mut needed, code);
        }
    });
    needed
}

/// The janitor's own files, and of the files that write what is reached from there.
fn needed_by_janitor() -> Rights {
    let (mut needed, mut own) = (Rights::new(), String::new());
    let mut writing = BTreeMap::new();
    visit(&root("agent-cluster/src"), &mut |file, code| {
        if JANITORS.contains(&file) || file == "lease.rs" {
            ask(&mut needed, code);
            own += code;
        } else if let Some(module) = WRITING.iter().find(|module| is_of(file, module)) {
            let functions = code.split("fn ").skip(1).map(str::to_owned);
            writing.entry((*module).to_owned()).or_insert_with(Vec::new).extend(functions);
        }
    });
    for functions in reached_from(&own, &writing).values() {
        let functions: Vec<_> = functions.iter().map(|function| format!("fn {function}")).collect();
        ask(&mut needed, &functions.concat());
    }
    needed
}

/// Says whether a file is this module of `apply`, or below it.
fn is_of(file: &str, module: &str) -> bool {
    let below = file.strip_prefix("apply/").and_then(|file| file.strip_prefix(module));
    below.is_some_and(|below| below == ".rs" || below.starts_with('/'))
}

/// Functions by module.
type Functions<F> = BTreeMap<String, F>;

/// Returns the functions that `code` calls by module and name, and those that they call in turn.
fn reached_from<'a>(
    code: &str,
    modules: &'a Functions<Vec<String>>,
) -> Functions<BTreeSet<&'a str>> {
    let mut reached = Functions::<BTreeSet<&str>>::new();
    let mut calling = vec![("", code)];
    while let Some((within, code)) = calling.pop() {
        for (module, functions) in modules {
            for function in functions {
                let name = function.split(['(', '<']).next().expect("at least one part");
                let called = code.contains(&format!("{module}::{name}("))
                    || (module == within && calls_bare(code, name, is_method(function)));
                if called && reached.entry(module.clone()).or_default().insert(function) {
                    let body = function.split_once('{').map_or("", |(_, body)| body);
                    calling.push((module, body));
                }
            }
        }
    }
    reached
}

fn calls_bare(code: &str, name: &str, is_method: bool) -> bool {
    code.match_indices(&format!("{name}(")).any(|(at, _)| match code[..at].chars().next_back() {
        Some('.') => is_method,
        // `Pen::new(…)`: of a type, and not of another module.
        Some(':') => last_word(code[..at].trim_end_matches(':')).starts_with(char::is_uppercase),
        Some(before) => !before.is_alphanumeric() && before != '_',
        None => true,
    })
}

fn is_method(function: &str) -> bool {
    let parameters = function.split_once('(').map_or("", |(_, parameters)| parameters);
    let first = parameters.split([',', ')']).next().expect("at least one part");
    first.trim_start().trim_start_matches("&").trim_start_matches("mut ") == "self"
}

fn ask(needed: &mut Rights, code: &str) {
    for (kind, verb) in asked(code) {
        let resource = KINDS.iter().find(|(known, _)| *known == kind);
        let (_, resource) = resource.unwrap_or_else(|| panic!("which resource is {kind}?"));
        needed.entry((*resource).to_owned()).or_default().insert(verb.to_owned());
    }
}

/// Returns what a file asks for, as kind and verb.
fn asked(code: &str) -> BTreeSet<(String, &'static str)> {
    let functions: Vec<String> = code.split("fn ").map(on_one_line).collect();
    let mut asked = BTreeSet::new();
    for function in &functions {
        for (before, kind) in kinds_after(function, "Api<") {
            let verbs: Vec<_> = match before.trim_end_matches('&').strip_suffix(": ") {
                // `pods: Api<Pod>`: what is called on `pods` in this function.
                Some(before) => calls_on(last_word(before), function).collect(),
                // `fn api(…) -> Api<Pod>`: what is called in this file on a function's result, or on that result
                // under the same name.
                None => functions
                    .iter()
                    .flat_map(|function| calls_on(")", function).chain(calls_on("api", function)))
                    .collect(),
            };
            asked.extend(verbs.into_iter().map(|verb| (kind.to_owned(), verb)));
        }
        // The generic ways of watch.rs and janitor.rs.
        for (generic, verbs) in [("scoped::<", &["list", "watch"][..]), ("list::<", &["list"])] {
            for (_, kind) in kinds_after(function, generic) {
                asked.extend(verbs.iter().map(|&verb| (kind.to_owned(), verb)));
            }
        }
    }
    asked
}

fn calls_on(name: &str, function: &str) -> impl Iterator<Item = &'static str> {
    let calls = CALLS.iter().filter(move |(call, _)| function.contains(&format!("{name}{call}")));
    let watches = ["watcher", "follow"].iter().any(|f| function.contains(&format!("{f}({name},")));
    calls.map(|(_, verb)| *verb).chain(watches.then_some(["list", "watch"]).into_iter().flatten())
}

/// Returns the kinds named after `opening`, each with the text before it; type parameters are no kinds.
fn kinds_after<'a>(function: &'a str, opening: &str) -> Vec<(&'a str, &'a str)> {
    let kind_at = |(at, opening): (usize, &str)| {
        let (kind, _) = function[at + opening.len()..].split_once('>')?;
        let is_kind = kind.len() > 1 && kind.chars().all(char::is_alphanumeric);
        is_kind.then_some((&function[..at], kind))
    };
    function.match_indices(opening).filter_map(kind_at).collect()
}

fn last_word(text: &str) -> &str {
    text.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().expect("at least one part")
}

/// Undoes the line breaks that formatting puts before a call or an argument.
fn on_one_line(code: &str) -> String {
    code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" .", ".").replace("( ", "(")
}

/// Shows every source file, by its path below `folder`, without what only tests compile.
fn visit(folder: &Path, show: &mut impl FnMut(&str, &str)) {
    let mut files = BTreeMap::new();
    read_below(folder, "", &mut files);
    let mut of_tests = BTreeSet::new();
    for (file, code) in &mut files {
        let (kept, modules) = without_tests(code);
        of_tests.extend(modules.iter().map(|module| module_below(file, module)));
        *code = kept;
    }
    for (file, code) in files.iter().filter(|(file, _)| !of_tests.contains(*file)) {
        show(file, code);
    }
}

fn read_below(folder: &Path, above: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_dir() {
            read_below(&path, &format!("{above}{name}/"), files);
        } else {
            files.insert(format!("{above}{name}"), fs::read_to_string(&path).expect("readable"));
        }
    }
}

/// Returns where the module lies that `file` declares.
fn module_below(file: &str, module: &str) -> String {
    let own = file.trim_end_matches(".rs");
    let (folder, name) = own.split_at(own.rfind('/').map_or(0, |at| at + 1));
    match name {
        "main" | "mod" => format!("{folder}{module}.rs"),
        _ => format!("{own}/{module}.rs"),
    }
}

/// Takes each item out that only tests compile, up to where formatting ends it, and returns what is left, and the
/// modules among those items that are files of their own.
fn without_tests(code: &str) -> (String, Vec<&str>) {
    let (mut kept, mut modules) = (String::new(), vec![]);
    let mut lines = code.split_inclusive('\n');
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept += line;
            continue;
        }
        let indent = line.split('#').next().expect("at least one part");
        let first = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
        let first = first.expect("an item follows its attributes").trim_end();
        let last = format!("{indent}}}");
        let ends = first.ends_with([';', ',', '}'])
            || lines.any(|line| line.trim_end().trim_end_matches(';') == last);
        assert!(ends, "where does this end? {first}");
        let module = first.strip_suffix(';').filter(|item| item.contains("mod "));
        modules.extend(module.map(last_word));
    }
    (kept, modules)
}

#[test]
fn what_only_tests_compile_is_left_out_wherever_it_stands() {
    let code = "
mod one;
#[cfg(test)]
pub(crate) mod fake;
mod two;
impl Two {
    #[cfg(test)]
    #[expect(dead_code)]
    fn three(
        &self,
    ) {
        if here {}
    }
    fn four() {}
}
#[cfg(test)]
mod tests {
    mod five;
}
fn six() {}
";
    let (kept, modules) = without_tests(code);
    assert_eq!(kept, "\nmod one;\nmod two;\nimpl Two {\n    fn four() {}\n}\nfn six() {}\n");
    assert_eq!(modules, ["fake"]);
    assert_eq!(module_below("main.rs", "fake"), "fake.rs");
    assert_eq!(module_below("apply/mod.rs", "fake"), "apply/fake.rs");
    assert_eq!(module_below("apply/slices.rs", "fake"), "apply/slices/fake.rs");
}

#[test]
fn what_is_reached_from_code_is_read_from_it() {
    let slices = [
        "patch(x) { Pen::new(x).put(x) }",
        "new(x) { x.get(x); another::create(x) }",
        "create(x) { api(x) }",
        "put(\n    &self,\n    x) { x }",
        "get(x) { x }",
    ];
    let modules = [("slices".to_owned(), slices.map(str::to_owned).to_vec())].into();
    let reached = reached_from("slices::patch(one); other.create(two)", &modules);
    assert_eq!(reached["slices"], [slices[0], slices[1], slices[3]].into());
}

#[test]
fn what_code_asks_for_is_read_from_it() {
    let code = "
        fn one(client: &Client) {
            let leases: Api<Lease> = Api::namespaced(client);
            leases
                .get_opt(NAME)
                .await
        }
        fn two(pods: Api<Pod>) { watcher(pods, config); text.replace(\"a\", \"b\"); }
        fn api(client: &Client) -> Api<Service> { made(client) }
        fn three(client: &Client) { api(client).patch(name) }";
    let expected = [("Lease", "get"), ("Pod", "list"), ("Pod", "watch"), ("Service", "patch")];
    assert_eq!(asked(code), expected.map(|(kind, verb)| (kind.to_owned(), verb)).into());
}
