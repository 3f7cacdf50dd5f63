//! The report of a run: figures, a table for people, a document for programs.

mod summary;
mod table;

use std::fmt::Write as _;

use lipsync::v1::GetServerStatsResponse;
use serde::Serialize;

use crate::{
    args::{Args, Pace},
    equality::Equality,
    machine::Machine,
    model::Model,
    run::{Capacity, Plan},
};
pub use summary::{Live, OfTenant, Quantiles, Summary};

/// The kind of measurement.
#[derive(Debug)]
pub enum Outcome {
    /// One run.
    Run(Box<Summary>),
    /// A search.
    Search(Capacity),
    /// A comparison.
    Equality(Equality),
}

/// The whole report, for `--json`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    machine: &'a Machine,
    server: Option<Server>,
    settings: &'a Args,
    /// The profile in words.
    load: &'static str,
    models: Vec<&'a Model>,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_users: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<&'a [Summary]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    equality: Option<&'a Equality>,
}

/// The server's description of itself.
#[derive(Debug, Serialize)]
struct Server {
    version: String,
    device: String,
    workers: u32,
}

impl From<&GetServerStatsResponse> for Server {
    fn from(stats: &GetServerStatsResponse) -> Self {
        Self {
            version: stats.version.clone(),
            device: stats.device.clone(),
            workers: stats.worker_count,
        }
    }
}

impl Outcome {
    /// Whether the run kept within the error budget; for a search, whether at least one user could be served; for a
    /// comparison, whether there were frames and all were equal.
    #[must_use]
    pub fn passed(&self, args: &Args) -> bool {
        match self {
            Self::Run(summary) => summary.within_budget(args.max_error_rate),
            Self::Search(capacity) => capacity.max_users > 0,
            Self::Equality(found) => found.frames > 0 && found.different == 0,
        }
    }

    /// Everything about the run, for programs.
    #[must_use]
    pub fn document<'a>(
        &'a self,
        args: &'a Args,
        plan: &'a Plan,
        machine: &'a Machine,
    ) -> Document<'a> {
        let mut document = Document {
            machine,
            server: plan.server().map(Server::from),
            settings: args,
            load: args.profile.describe(),
            models: plan.models().collect(),
            passed: self.passed(args),
            run: None,
            max_users: None,
            probes: None,
            equality: None,
        };
        match self {
            Self::Run(summary) => document.run = Some(summary),
            Self::Search(found) => {
                document.max_users = Some(found.max_users);
                document.probes = Some(&found.probes);
            }
            Self::Equality(found) => document.equality = Some(found),
        }
        document
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self, args: &Args, plan: &Plan, machine: &Machine) -> String {
        let mut text = heading(args, plan, machine);
        let unit = if args.stream { "frame" } else { "request" };
        match self {
            Self::Run(summary) => text.push_str(&summary.table(unit)),
            Self::Search(capacity) => {
                let _ = writeln!(
                    text,
                    "most users            {} (p95 <= {} ms, errors <= {} %)\n",
                    capacity.max_users,
                    args.slo_p95_ms,
                    args.max_error_rate * 100.0
                );
                let best = capacity.probes.iter().rev();
                if let Some(best) = best.into_iter().find(|p| p.users == capacity.max_users) {
                    text.push_str(&best.table(unit));
                }
            }
            Self::Equality(found) => text.push_str(&found.to_string()),
        }
        if !self.passed(args) {
            text.push_str("\nFAILED: ");
            text.push_str(match self {
                Self::Equality(Equality { frames: 0, .. }) => "no frames to compare\n",
                Self::Equality(_) => "frames differ\n",
                _ => "the error budget is exceeded, or nothing could be measured\n",
            });
        }
        text
    }
}

fn heading(args: &Args, plan: &Plan, machine: &Machine) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} on {} ({} cores), {}",
        args.addr, machine.cpu, machine.cores, machine.date
    );
    if let Some(server) = plan.server() {
        let _ = writeln!(
            text,
            "server {}, {}, {} workers",
            server.version, server.device, server.worker_count
        );
    }
    let models: Vec<&str> = plan.models().map(|model| model.id.as_str()).collect();
    let kind = match (args.stream, args.pacing) {
        (false, _) => "unary",
        (true, Pace::Asap) => "streams, as fast as possible",
        (true, Pace::Realtime) => "streams, in real time",
    };
    let _ = writeln!(
        text,
        "{kind}, {}, models {}, batch {}\n",
        args.profile.describe(),
        models.join(" "),
        args.batch
    );
    text
}

#[cfg(test)]
mod tests;
