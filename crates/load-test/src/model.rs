//! The server's description of the models under test.

use lipsync::{
    client::Client,
    v1::{
        GetBackgroundRequest, GetModelStatsRequest, ListModelsRequest, LoadModelRequest, ModelStats,
    },
};
use serde::Serialize;
use tonic::Code;

use crate::{Error, args::Input};

/// A model under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// Its frames per second.
    pub fps: u32,
    /// Width of full frames, px.
    pub width: u32,
    /// Height of full frames, px.
    pub height: u32,
    /// `ave`, `hubert`, `wenet` or `mel`.
    pub audio_kind: String,
}

impl Model {
    /// Reads the server's answer about a loaded model.
    #[must_use]
    pub fn from_stats(stats: &ModelStats) -> Self {
        Self {
            id: stats.model_id.clone(),
            fps: if stats.fps == 0 { 25 } else { stats.fps },
            width: stats.width,
            height: stats.height,
            audio_kind: stats.audio_kind.clone(),
        }
    }

    /// Bytes of one feature step or window.
    ///
    /// *Shapes:* f32; a step `[512]` (AVE only); a window `[32, 16, 16]` (AVE), `[32, 32, 32]`
    /// (`HuBERT`), `[256, 16, 32]` (wenet) or `[1, 80, 16]` (mel).
    ///
    /// # Errors
    /// [`Error::NoShape`] for a kind of unknown shape.
    pub fn feature_bytes(&self, input: Input) -> Result<usize, Error> {
        let (name, floats) = match (input, self.audio_kind.as_str()) {
            (Input::Steps, "ave") => ("steps", Some(512)),
            (Input::Windows, "ave") => ("windows", Some(32 * 16 * 16)),
            (Input::Windows, "hubert") => ("windows", Some(32 * 32 * 32)),
            (Input::Windows, "wenet") => ("windows", Some(256 * 16 * 32)),
            (Input::Windows, "mel") => ("windows", Some(80 * 16)),
            (Input::Windows, _) => ("windows", None),
            _ => ("steps", None),
        };
        floats.map(|n| n * 4).ok_or_else(|| Error::NoShape {
            input: name,
            audio_kind: self.audio_kind.clone(),
        })
    }
}

/// Looks up and loads the models, so that loading is over before the clock starts.
///
/// # Errors
/// [`Error::UnknownModel`], or [`Error::Refused`] when the server will not list or load.
pub async fn load(client: &Client, ids: &[String]) -> Result<Vec<Model>, Error> {
    let mut admin = client.model_admin();
    let known = admin
        .list_models(ListModelsRequest {})
        .await
        .map_err(Error::refused("ListModels"))?
        .into_inner()
        .models;
    let mut models = Vec::with_capacity(ids.len());
    for id in ids {
        if !known.iter().any(|model| model.model_id == *id) {
            let known: Vec<&str> = known.iter().map(|m| m.model_id.as_str()).collect();
            return Err(Error::UnknownModel {
                asked: id.clone(),
                known: known.join(", "),
            });
        }
        let stats = load_one(client, id).await?;
        models.push(Model {
            id: id.clone(),
            ..Model::from_stats(&stats)
        });
    }
    Ok(models)
}

/// Loads a model, and describes it. A tenant that may not load models may use them, which loads them, too.
async fn load_one(client: &Client, id: &str) -> Result<ModelStats, Error> {
    let model_id = || id.to_owned();
    let mut admin = client.model_admin();
    let request = LoadModelRequest {
        model_id: model_id(),
    };
    match admin.load_model(request).await {
        Ok(loaded) => return Ok(loaded.into_inner().model.unwrap_or_default()),
        Err(status) if status.code() == Code::PermissionDenied => {}
        Err(status) => return Err(Error::refused("LoadModel")(status)),
    }
    let first_frame = GetBackgroundRequest {
        model_id: model_id(),
        background_indices: vec![0],
        ..GetBackgroundRequest::default()
    };
    client
        .lip_sync()
        .get_background(first_frame)
        .await
        .map_err(Error::refused("GetBackground"))?;
    let request = GetModelStatsRequest {
        model_id: model_id(),
    };
    let described = admin.get_model_stats(request).await;
    let described = described.map_err(Error::refused("GetModelStats"))?;
    Ok(described.into_inner().model.unwrap_or_default())
}
