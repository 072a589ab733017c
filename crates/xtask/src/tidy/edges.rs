//! Which crate may use which, and how many packages the shipped program is made of; both from `cargo metadata`.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::Problem;
use crate::process;

/// The shipped program and the packages it may consist of, itself included (docs/adr: the dependency budget).
const SHIPPED: &str = "koine";
const PACKAGE_COUNT_MAX: usize = 126;

const ENGINE: &[&str] = &["koine-base", "koine-log", "koine-broker", "koine-cluster"];
const PROTOCOLS: &[&str] = &["koine-kafka", "koine-amqp", "koine-mqtt"];
const CODEC: &[&str] = &["koine-base", "koine-broker"];

/// Every crate of the workspace and the crates of ours that it may use.
const ALLOWED: [(&str, &[&[&str]]); 14] = [
    ("koine-base", &[]),
    ("koine-log", &[&["koine-base"]]),
    ("koine-broker", &[&["koine-base"]]),
    ("koine-cluster", &[&["koine-base", "koine-log", "koine-broker"]]),
    ("koine-kafka", &[CODEC]),
    ("koine-amqp", &[CODEC]),
    ("koine-mqtt", &[CODEC]),
    ("koine", &[ENGINE, PROTOCOLS]),
    ("koine-workload", &[&["koine-base"]]),
    ("koine-sim", &[ENGINE, PROTOCOLS, &["koine-workload"]]),
    ("koine-fuzz", &[ENGINE, PROTOCOLS, &["koine-workload"]]),
    ("koine-bench", &[CODEC, PROTOCOLS, &["koine-workload"]]),
    ("koine-torture", &[CODEC, &["koine-workload"]]),
    ("xtask", &[&["koine-workload"]]),
];

pub fn check() -> Result<Vec<Problem>, String> {
    let host = host_platform()?;
    let arguments = ["metadata", "--format-version=1", "--filter-platform", &host];
    let text = process::output(&mut process::cargo(&arguments))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    let mut problems = check_edges(&metadata);
    problems.extend(check_package_count(&metadata));
    Ok(problems)
}

fn host_platform() -> Result<String, String> {
    let text = process::output(std::process::Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not name its host".to_owned())
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn check_edges(metadata: &Value) -> Vec<Problem> {
    let members: BTreeSet<&str> =
        array(metadata, "workspace_members").filter_map(Value::as_str).collect();
    let is_member =
        |package: &&Value| package["id"].as_str().is_some_and(|id| members.contains(id));
    let ours: Vec<&Value> = array(metadata, "packages").filter(is_member).collect();
    let names: BTreeSet<&str> =
        ours.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut problems = Vec::new();
    for package in ours {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            problems.push(format!(
                "crate {name} is not in the table of edges (crates/xtask/src/tidy/edges.rs)"
            ));
            continue;
        };
        for used in
            array(package, "dependencies").filter_map(|dependency| dependency["name"].as_str())
        {
            if names.contains(used) && !allowed.iter().any(|group| group.contains(&used)) {
                problems.push(format!("crate {name} must not use {used} (ARCHITECTURE.md)"));
            }
        }
    }
    problems
}

/// Counts what `cargo tree -e normal` would show once each.
fn check_package_count(metadata: &Value) -> Option<Problem> {
    let mut edges: HashMap<&str, Vec<&str>> = HashMap::new();
    for node in array(&metadata["resolve"], "nodes") {
        let is_normal =
            |dependency: &&Value| array(dependency, "dep_kinds").any(|kind| kind["kind"].is_null());
        let used = array(node, "deps")
            .filter(is_normal)
            .filter_map(|dependency| dependency["pkg"].as_str());
        edges.insert(node["id"].as_str().unwrap_or_default(), used.collect());
    }
    let shipped =
        array(metadata, "packages").find(|package| package["name"] == SHIPPED)?["id"].as_str()?;
    let (mut seen, mut open) = (BTreeSet::from([shipped]), vec![shipped]);
    while let Some(package) = open.pop() {
        for used in edges.get(package).into_iter().flatten() {
            if seen.insert(used) {
                open.push(used);
            }
        }
    }
    let count = seen.len();
    (count > PACKAGE_COUNT_MAX)
        .then(|| format!("{SHIPPED} consists of {count} packages, {PACKAGE_COUNT_MAX} at most"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, uses: &[&str]) -> Value {
        let dependencies: Vec<Value> =
            uses.iter().map(|used| json!({"name": used, "kind": null})).collect();
        json!({"name": name, "id": name, "dependencies": dependencies})
    }

    #[test]
    fn a_forbidden_edge_is_named() {
        let packages = [
            package("koine-kafka", &["koine-base", "koine-log", "bytes"]),
            package("koine-base", &[]),
            package("koine-log", &["koine-base"]),
            package("koine-new", &[]),
        ];
        let metadata = json!({"packages": packages, "workspace_members": ["koine-kafka", "koine-base", "koine-log", "koine-new"]});
        let found = check_edges(&metadata);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("koine-kafka must not use koine-log"), "{found:?}");
        assert!(found[1].contains("koine-new is not in the table"), "{found:?}");
    }

    #[test]
    fn packages_are_counted_over_normal_edges() {
        let normal = json!([{"kind": null}]);
        let build = json!([{"kind": "build"}]);
        let chain: Vec<Value> = (0..130)
            .map(|i| json!({"id": format!("p{i}"), "deps": [{"pkg": format!("p{}", i + 1), "dep_kinds": normal}]}))
            .collect();
        let with_root = |kind: &Value| {
            let mut nodes =
                vec![json!({"id": "koine", "deps": [{"pkg": "p0", "dep_kinds": kind}]})];
            nodes.extend(chain.clone());
            json!({"packages": [package("koine", &[])], "resolve": {"nodes": nodes}})
        };
        assert!(check_package_count(&with_root(&normal))
            .is_some_and(|text| text.contains("132 packages")));
        assert_eq!(check_package_count(&with_root(&build)), None);
    }
}
