//! Files by the routes that people export them, made by `tools/export-zoo`: each is served as ONNX Runtime runs
//! it, or refused with a way out.

#[path = "../examples/check_zoo/zoo.rs"]
mod zoo;

use std::path::Path;

#[test]
fn every_file_is_served_or_refused_as_its_route_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/zoo");
    let findings = zoo::check(&folder).expect("the list of files");
    assert!(findings.len() >= 12, "only {} files", findings.len());
    let said = |finding: &zoo::Finding| format!("{}: {:?}", finding.file, finding.outcome);
    let wrong = findings.iter().filter(|finding| finding.outcome.is_err());
    let wrong: Vec<String> = wrong.map(said).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
