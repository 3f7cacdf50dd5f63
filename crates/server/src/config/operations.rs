//! `operations`: the page and the probes.

use std::{net::SocketAddr, path::Path};

use lipsync_core::saturate::usize_of;

use super::{
    BadValue, Origin,
    address::{overlap, parse_address},
    section::{mebibytes, section},
    text::Text,
    text_to_speech::{TextToSpeech, Written},
    tls::{RawOperationsTls, Tls},
};

/// Origins, as they are written.
type Origins = Vec<String>;

section! {
    /// `operations`, as it is written.
    RawOperations in "operations";
    cold enabled: bool = true;
    cold port: Text = ":8080";
    cold allowed_origins: Origins;
    cold text_to_speech_url: Text;
    cold text_to_speech_body: Text;
    cold text_to_speech_timeout_s: u32 = 30, 1..=300;
    cold text_to_speech_max_characters: u32 = 1000, 1..=4000;
    cold text_to_speech_max_audio_mb: u32 = 16, 1..=64;
    + tls: RawOperationsTls;
}

/// `operations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operations {
    /// Where HTTP listens.
    pub address: SocketAddr,
    /// Whose pages may open sessions, besides those of this port.
    pub allowed_origins: Vec<Origin>,
    /// What speaks texts for the page.
    pub text_to_speech: TextToSpeech,
    /// How it is encrypted, if it is.
    pub tls: Option<Tls>,
}

impl RawOperations {
    /// Checks it beside the address of the gRPC port. `None`: off.
    pub(super) fn check(
        &self,
        grpc: SocketAddr,
        base: &Path,
    ) -> Result<Option<Operations>, BadValue> {
        // Checked even when it is off, so that switching it on brings no surprise.
        let address = parse_address("operations.port", self.port())?;
        if self.enabled() && overlap(address, grpc) {
            return Err(self.same_port(address, grpc));
        }
        let origins = self.allowed_origins.iter().flatten();
        let allowed_origins = origins
            .map(|text| Origin::parse("operations.allowed_origins", text))
            .collect::<Result<_, _>>()?;
        let text_to_speech = self.text_to_speech()?;
        let tls = self.tls.check(base)?;
        Ok(self.enabled().then_some(Operations {
            address,
            allowed_origins,
            text_to_speech,
            tls,
        }))
    }

    fn text_to_speech(&self) -> Result<TextToSpeech, BadValue> {
        TextToSpeech::check(&Written {
            url: self.text_to_speech_url.as_deref(),
            body: self.text_to_speech_body.as_deref(),
            timeout_s: self.text_to_speech_timeout_s()?,
            max_characters: usize_of(self.text_to_speech_max_characters()?),
            max_audio_bytes: mebibytes(self.text_to_speech_max_audio_mb()?),
        })
    }

    /// Names the key that is written: the other one may be a default.
    fn same_port(&self, address: SocketAddr, grpc: SocketAddr) -> BadValue {
        let (key, ours, other, theirs) = if self.port.is_some() {
            ("operations.port", address, "server.port", grpc)
        } else {
            ("server.port", grpc, "operations.port", address)
        };
        BadValue {
            key: key.into(),
            message: format!(
                "expected another port than that of {other}, {theirs}, found {ours}: both cannot listen there"
            ),
        }
    }
}
