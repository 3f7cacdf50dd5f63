//! Files of a crate need each other in one direction only.
//!
//! A file needs another where it names something in it: in a `use`, or by a path from `crate`, `super` or a module of
//! its own. What a module hands on by `use` counts for where it comes from. Tests may need whatever they like.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result};
use cargo_metadata::MetadataCommand;

use crate::arrows::sources;

/// The segments of a path.
type Names = Vec<String>;

/// The modules of a crate, and what each of them needs.
#[derive(Default)]
struct Crate {
    /// Of every module, paths as they are written.
    named: BTreeMap<Names, Vec<Names>>,
    /// What modules bring into scope, by the path under which it is then known.
    handed_on: BTreeMap<Names, Names>,
}

#[test]
fn no_files_need_each_other() -> Result<()> {
    let crates = MetadataCommand::new().no_deps().exec()?.workspace_root;
    // The configuration is one room so far.
    for (name, left_out) in [
        ("session", None),
        ("serving", None),
        ("server", Some("config")),
    ] {
        let folder = crates.join("crates").join(name).join("src");
        let found = Crate::read(folder.as_std_path())?.cycle(left_out);
        assert_eq!(
            found,
            BTreeMap::new(),
            "files of {name} that need each other"
        );
    }
    Ok(())
}

#[test]
fn cycles_are_found() {
    let files = [
        ("lib", "mod a; mod b; mod c; pub use a::A;"),
        (
            "a",
            "use super::b::{self, x::{Y, Z as W}}; // crate::c\nstruct A;",
        ),
        ("b", "fn f() { crate::c::g(\"to use {} twice; }\") }"),
        ("c", "fn g() {}\n#[cfg(test)]\nmod tests { use crate::a; }"),
    ];
    let read = |files: &[(&str, &str)]| {
        let mut read = Crate::default();
        for (name, source) in files {
            let path = if *name == "lib" {
                Vec::new()
            } else {
                vec![(*name).to_owned()]
            };
            read.add(path, source);
        }
        read.cycle(None)
    };
    assert_eq!(read(&files), BTreeMap::new());
    for back in [
        "use crate::A;",
        "fn g() -> super::a::A {}",
        "use super::{b, a};",
    ] {
        let mut files = files;
        files[3].1 = back;
        let found = read(&files);
        let found: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(found, ["a", "b", "c"], "{back}");
    }
}

impl Crate {
    fn read(folder: &Path) -> Result<Self> {
        let mut all = Self::default();
        let mut files = Vec::new();
        sources(folder, &mut files)?;
        for file in files {
            let place = file.strip_prefix(folder)?.with_extension("");
            let names = place.iter().map(|name| name.to_str().map(str::to_owned));
            let mut path: Names = names.collect::<Option<_>>().context("a path in UTF-8")?;
            path.pop_if(|last| last == "mod" || last == "lib");
            if !path.iter().any(|name| name == "tests") {
                all.add(path, &std::fs::read_to_string(&file)?);
            }
        }
        Ok(all)
    }

    fn add(&mut self, module: Names, source: &str) {
        let (brought, mut named) = paths(&code(source));
        for (name, path) in brought {
            let known_as = [module.as_slice(), &[name]].concat();
            self.handed_on.insert(known_as, path.clone());
            named.push(path);
        }
        self.named.insert(module, named);
    }

    /// From the root of the crate; `None` for what is not of this crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Names> {
        let (mut base, mut rest) = (module.to_vec(), path);
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {}
            first => {
                base.push(first.to_owned());
                return self
                    .named
                    .contains_key(&base)
                    .then(|| [module, path].concat());
            }
        }
        while rest.first().is_some_and(|name| name == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// The module that has what is at a path.
    fn home(&self, path: &[String], n_hops: usize) -> Option<Names> {
        let n = (0..=path.len()).rev();
        let mut modules = n.filter(|&n| self.named.contains_key(&path[..n]));
        let n = modules.next()?;
        let module = &path[..n];
        let item = path.get(..=n);
        let from = item.and_then(|item| self.handed_on.get(item));
        match from.and_then(|from| self.absolute(module, from)) {
            Some(from) if n_hops > 0 => {
                self.home(&[from.as_slice(), &path[n + 1..]].concat(), n_hops - 1)
            }
            // Of another crate, or of this file.
            _ => Some(module.to_vec()),
        }
    }

    /// The modules that are on a cycle or between two, and what they need of each other.
    fn cycle(&self, left_out: Option<&str>) -> BTreeMap<String, BTreeSet<String>> {
        let mut needs = BTreeMap::new();
        for (module, named) in &self.named {
            let homes = named.iter().filter_map(|path| {
                let path = self.absolute(module, path)?;
                self.home(&path, 5).filter(|home| home != module)
            });
            let of_interest = |home: &Names| home.first().map(String::as_str) != left_out;
            let of_interest = |home: &Names| left_out.is_none() || of_interest(home);
            if of_interest(module) {
                let homes = homes.filter(of_interest).map(|home| home.join("::"));
                needs.insert(module.join("::"), homes.collect::<BTreeSet<_>>());
            }
        }
        // What needs nothing, or is needed by nothing, is on no cycle.
        loop {
            let n_before = needs.len();
            let needed: BTreeSet<String> = needs.values().flatten().cloned().collect();
            needs.retain(|module, of| !of.is_empty() && needed.contains(module));
            let left: BTreeSet<String> = needs.keys().cloned().collect();
            for of in needs.values_mut() {
                of.retain(|module| left.contains(module));
            }
            if needs.len() == n_before {
                return needs;
            }
        }
    }
}

/// Without comments and the unit tests at the end.
fn code(source: &str) -> String {
    let lines = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""));
    let code = lines.collect::<Vec<_>>().join("\n");
    let tests = code.find("#[cfg(test)]\nmod tests {");
    code[..tests.unwrap_or(code.len())].to_owned()
}

/// What `use` brings, by name, and all other paths of more than one segment.
fn paths(code: &str) -> (Vec<(String, Names)>, Vec<Names>) {
    let (mut brought, mut named) = (Vec::new(), Vec::new());
    let mut rest = code;
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(start) = rest.find(is_name) {
        let path = rest[start..]
            .split(|c: char| !is_name(c) && c != ':')
            .next();
        let path = path.unwrap_or_default();
        let before = &code[..code.len() - rest.len() + start];
        rest = &rest[start + path.len()..];
        if path == "use" && ends_an_item(before) {
            let (tree, after) = rest.split_once(';').unwrap_or((rest, ""));
            bring(&[], tree, &mut brought);
            rest = after;
        } else if path.contains("::") {
            let names = path.split("::").filter(|name| !name.is_empty());
            named.push(
                names
                    .map(|name| name.trim_end_matches(':').to_owned())
                    .collect(),
            );
        }
    }
    (brought, named)
}

/// Whether what comes next is an item of its own, and no word of a text.
fn ends_an_item(code: &str) -> bool {
    let code = code.trim_end();
    let code = code.strip_suffix("pub").unwrap_or(code).trim_end();
    code.is_empty() || code.ends_with([';', '{', '}', ')', ']'])
}

/// The names in a tree such as `a::{b, c::{self, d as e}}`.
fn bring(above: &[String], tree: &str, brought: &mut Vec<(String, Names)>) {
    let tree = tree.trim();
    let (path, branches) = match tree.split_once('{') {
        Some((path, branches)) => (path, branches.strip_suffix('}')),
        None => (tree, None),
    };
    let (path, alias) = path.split_once(" as ").unwrap_or((path, ""));
    let mut names = above.to_vec();
    let segments = path.split("::").map(str::trim);
    names.extend(segments.filter(|name| !name.is_empty()).map(str::to_owned));
    let Some(branches) = branches else {
        names.pop_if(|last| last == "self");
        let name = names.last().cloned().unwrap_or_default();
        let name = if alias.is_empty() {
            name
        } else {
            alias.trim().to_owned()
        };
        return brought.push((name, names));
    };
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in branches.char_indices().chain([(branches.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = &branches[start..at];
                start = at + 1;
                if !branch.trim().is_empty() {
                    bring(&names, branch, brought);
                }
            }
            _ => {}
        }
    }
}
