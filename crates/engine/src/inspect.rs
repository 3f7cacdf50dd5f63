//! What a file holds, for people: `lipsync-server inspect-model`.

use std::{collections::BTreeMap, fmt};

use crate::{
    EngineError, LoadOptions, Network,
    contract::{Role, role_of},
    cpu::{CpuGenerator, PlanReport},
    graph::simplify::simplify,
    import::{
        Imported, ImportedSpeech, MAX_SHOWN_ENDS, TensorInfo, import, import_speech, recognise,
    },
    schedule::units::{UnitKind, group},
};

/// What was found in an ONNX file.
#[derive(Debug)]
pub struct Inspection {
    /// Names and declared shapes of the inputs.
    pub inputs: Vec<TensorInfo>,
    /// Names and declared shapes of the outputs.
    pub outputs: Vec<TensorInfo>,
    /// Version of the operator set.
    pub opset: i64,
    /// How often each operator occurs.
    pub operators: BTreeMap<String, usize>,
    /// Weights and biases, normalisations folded.
    pub n_parameters: u64,
    /// Multiplications and additions of one frame, counted in pairs; of what is supported.
    pub macs_per_frame: u64,
    /// Inverted residual blocks that run as one step; 0 where anything is unsupported.
    pub n_fused_blocks: usize,
    /// Steps of one frame, fused blocks among them; 0 where anything is unsupported.
    pub n_steps: usize,
    /// What nothing executes, one sentence for all nodes with the same reason; such a network does not load.
    pub unsupported: Vec<String>,
    /// What the network can be for the server, or why nothing.
    pub serves_as: Result<Role, String>,
}

/// Says what the plan of a file does, step by step; of a generator as the server runs it.
///
/// # Errors
/// As [`Network::load`].
pub fn inspect_plan(
    onnx: &[u8],
    options: impl Into<LoadOptions>,
) -> Result<PlanReport, EngineError> {
    let options = options.into();
    match CpuGenerator::load(onnx, &options) {
        Ok(generator) => Ok(generator.into_network().plan_report()),
        Err(EngineError::Contract { .. }) => Ok(Network::load(onnx, options)?.plan_report()),
        Err(error) => Err(error),
    }
}

/// Reads a file without loading it.
///
/// # Errors
/// As [`import`]. Unsupported operators are no error here, they are listed.
pub fn inspect(onnx: &[u8]) -> Result<Inspection, EngineError> {
    if let Some(kind) = recognise(onnx) {
        return import_speech(onnx, kind).map(|found| inspect_speech(&found));
    }
    let Imported {
        mut graph,
        inputs,
        outputs,
        opset,
        operators,
        unsupported,
    } = import(onnx)?;
    let units = if unsupported.is_empty() {
        simplify(&mut graph);
        group(&graph)
    } else {
        vec![]
    };
    let serves_as = if unsupported.is_empty() {
        role_of(&graph, (&inputs, &outputs)).map_err(|error| error.to_string())
    } else {
        Err(format!(
            "{} of its nodes are not supported",
            unsupported.len()
        ))
    };
    let is_block = |kind: UnitKind| matches!(kind, UnitKind::Block(_));
    Ok(Inspection {
        inputs,
        outputs,
        opset,
        operators,
        n_parameters: graph.n_parameters(),
        macs_per_frame: graph.macs(),
        n_fused_blocks: units.iter().filter(|u| is_block(u.kind)).count(),
        n_steps: units.len(),
        unsupported: grouped_by_reason(&unsupported),
        serves_as,
    })
}

/// What an encoder of speech holds; a frame has one step.
fn inspect_speech(found: &ImportedSpeech) -> Inspection {
    let ImportedSpeech { kind, sequence, .. } = found;
    Inspection {
        inputs: found.inputs.clone(),
        outputs: found.outputs.clone(),
        opset: found.opset,
        operators: found.operators.clone(),
        n_parameters: found.n_parameters,
        macs_per_frame: sequence.macs() / kind.form().patch.n_steps() as u64,
        n_fused_blocks: 0,
        n_steps: sequence.nodes.len(),
        unsupported: vec![],
        serves_as: found
            .check()
            .map_err(|e| e.to_string())
            .map(|()| Role::AudioEncoder {
                audio: kind.audio(),
                step_floats: kind.form().n_floats,
            }),
    }
}

/// One sentence for all nodes that are refused for the same reason, with the first one's name.
fn grouped_by_reason(unsupported: &[EngineError]) -> Vec<String> {
    let mut groups: Vec<(&EngineError, usize)> = Vec::new();
    let parts = |error: &EngineError| match error {
        EngineError::UnsupportedOperator {
            operator, reason, ..
        } => (operator.clone(), reason.clone()),
        other => (other.to_string(), String::new()),
    };
    for error in unsupported {
        match groups
            .iter_mut()
            .find(|(first, _)| parts(first) == parts(error))
        {
            Some((_, n)) => *n += 1,
            None => groups.push((error, 1)),
        }
    }
    let sentence = |(first, n): (&EngineError, usize)| match n {
        1 => first.to_string(),
        n => format!("{first} ({n} nodes)"),
    };
    groups.into_iter().map(sentence).collect()
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, ends) in [("input", &self.inputs), ("output", &self.outputs)] {
            for end in ends.iter().take(MAX_SHOWN_ENDS) {
                writeln!(f, "{label:<16}{end}")?;
            }
            if ends.len() > MAX_SHOWN_ENDS {
                writeln!(f, "{label:<16}… ({} in all)", ends.len())?;
            }
        }
        writeln!(f, "{:<16}{}", "opset", self.opset)?;
        writeln!(f, "{:<16}{}", "parameters", grouped(self.n_parameters))?;
        writeln!(
            f,
            "{:<16}{} per frame",
            "MACs",
            grouped(self.macs_per_frame)
        )?;
        if self.unsupported.is_empty() {
            let (blocks, steps) = (self.n_fused_blocks, self.n_steps);
            writeln!(
                f,
                "{:<16}{steps}, {blocks} of them fused inverted residual blocks",
                "steps"
            )?;
        }
        let counts: Vec<String> = self
            .operators
            .iter()
            .map(|(operator, n)| format!("{operator} {n}"))
            .collect();
        for (i, line) in counts.chunks(6).enumerate() {
            let label = if i == 0 { "operators" } else { "" };
            writeln!(f, "{label:<16}{}", line.join(", "))?;
        }
        for (i, reason) in self.unsupported.iter().enumerate() {
            let label = if i == 0 { "unsupported" } else { "" };
            writeln!(f, "{label:<16}{reason}")?;
        }
        match &self.serves_as {
            Ok(role) => writeln!(f, "serves as {role}"),
            Err(reason) => writeln!(f, "serves as nothing: {reason}"),
        }
    }
}

/// A number with commas between thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CpuIsa,
        oracle::network_writer::{builder::NetworkBuilder, variants::write_variant},
    };

    #[test]
    fn a_network_of_the_family_is_described() {
        let found = inspect(&write_variant("small-328-plumbing").unwrap()).unwrap();
        // One block at the top, two in each double convolution (five down, two at the bottom, five
        // up), five in the audio branch.
        assert_eq!(found.n_fused_blocks, 1 + 2 * (5 + 2 + 5) + 5);
        assert_eq!(found.operators["Resize"], 5);
        let text = found.to_string();
        assert!(text.contains("input [batch, 6, 320, 320]"), "{text}");
        assert!(text.contains("30 of them fused"), "{text}");
        let last = text.trim_end().lines().last().unwrap_or_default();
        assert_eq!(
            last,
            "serves as the generator of 320-pixel faces with ave audio"
        );
        let encoder = inspect(&write_variant("ave-encoder").unwrap()).unwrap();
        let text = encoder.to_string();
        assert!(
            text.contains("serves as an audio encoder of 512 floats a step"),
            "{text}"
        );
    }

    #[test]
    fn a_reason_is_said_once_for_all_its_nodes() {
        let mut net = NetworkBuilder::new(13, false, 1);
        net.input("x", &[None, Some(2), Some(4), Some(4)]);
        net.output("y", &[]);
        for _ in 0..5 {
            net.node("Gelu", &["x"], vec![]);
        }
        net.node_to("Gelu", &["x"], vec![], "y");
        let found = inspect(&net.finish()).unwrap();
        assert_eq!(found.unsupported.len(), 1, "{:?}", found.unsupported);
        let text = found.to_string();
        assert!(text.contains("(6 nodes)"), "{text}");
        assert!(text.contains("serves as nothing: 6 of its nodes"), "{text}");
    }

    #[test]
    fn full_size_networks_run_on_fast_kernels() {
        // All blocks fused; by themselves run two dense convolutions of each audio branch, and all of
        // the audio encoder.
        for (name, n_blocks, n_unfused) in [
            ("328-ave", 30, 2),
            ("160-hubert", 26, 2),
            ("160-wenet", 26, 2),
            ("ave-encoder", 0, 13),
        ] {
            let plan = inspect_plan(&write_variant(name).unwrap(), CpuIsa::Auto).unwrap();
            let n_fused = plan.steps.iter().filter(|s| s.kernel == "fused").count();
            assert_eq!(
                (n_fused, plan.n_unfused()),
                (n_blocks, n_unfused),
                "{name}\n{plan}"
            );
            assert_eq!(plan.n_plain(), 0, "{name}\n{plan}");
        }
    }

    #[test]
    fn the_plan_of_the_full_size_network_is_small() {
        let onnx = write_variant("328-ave").unwrap();
        let plan = inspect_plan(&onnx, CpuIsa::Auto).unwrap();
        // 13 % fewer than the file's 4.886 GMAC.
        assert!(
            (4_200_000_000..4_300_000_000).contains(&plan.macs()),
            "{plan}"
        );
        let workspace = plan.arena_bytes + plan.scratch_bytes;
        let total = plan.weights_bytes + 2 * workspace;
        assert!(total < 150_000_000, "{plan}");
        assert!(plan.kept_bytes > 0 && plan.steps[0].visual);
        let text = plan.to_string();
        assert!(
            text.contains("packing, 1x1 6-12, 3x3 / 1, 1x1 12-32"),
            "{text}"
        );
        assert!(text.contains("resize(1x1 32-128) + 1x1 32-128"), "{text}");
        assert!(text.contains("1x1 32-16, 1x1 16-3, output"), "{text}");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(12_153_887), "12,153,887");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(0), "0");
    }
}
