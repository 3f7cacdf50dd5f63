//! What is slow about models stays off the runtime.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use lipsync::v1::{self, model_admin_server::ModelAdmin as _};
use lipsync_core::{FaceGeometry, ModelId};
use lipsync_engine::{FaceInput, Generator};
use lipsync_testing::{FakeGenerator, LoaderOf};
use tokio::sync::Notify;
use tonic::Request;

use super::*;
use crate::service::ModelAdminService;

/// How a network's memory is given back: when the test says so.
struct Freeing {
    begun: Notify,
    go_on: Mutex<mpsc::Receiver<()>>,
    was_left_alone: AtomicBool,
}

/// What a test that blocks its own runtime waits for, to fail.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes networks whose memory is given back when the test says so.
fn slow_to_free(freeing: &Arc<Freeing>) -> Arc<dyn NetworkLoader> {
    let freeing = Arc::clone(freeing);
    Arc::new(LoaderOf::new(move |_, _, _| {
        let freeing = Arc::clone(&freeing);
        let copy = |frames: &[FaceInput<'_>], faces: &mut Vec<Vec<u8>>| {
            faces.extend(frames.iter().map(|frame| frame.crop.to_vec()));
            Ok(())
        };
        let slow = FakeGenerator::new(FaceGeometry::SMALL, copy).on_drop(move || {
            freeing.begun.notify_one();
            let told = freeing.go_on.lock().unwrap().recv_timeout(PATIENCE);
            freeing
                .was_left_alone
                .store(told.is_err(), Ordering::SeqCst);
        });
        Ok(Arc::new(slow) as Arc<dyn Generator>)
    }))
}

fn write_avatar(folder: &Path) {
    std::fs::create_dir_all(folder.join("frames")).unwrap();
    let manifest =
        "audio_kind: ave\ngenerator: g.onnx\nframes: frames\ncrop_rectangles: rects.json\n";
    std::fs::write(folder.join("avatar.yaml"), manifest).unwrap();
    std::fs::write(folder.join("g.onnx"), "any").unwrap();
    std::fs::write(folder.join("rects.json"), "[[1,1,7,7]]").unwrap();
    let frame = image::RgbImage::new(8, 8);
    frame.save(folder.join("frames/frame_0000.png")).unwrap();
}

/// A server with one model in memory. All of the test runs on one thread: what blocks it, blocks the test.
async fn with_a_model(
    idle_minutes: &str,
) -> (Server, Arc<Freeing>, mpsc::Sender<()>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    write_avatar(&folder.path().join("a"));
    let yaml = format!(
        "server: {{port: '127.0.0.1:0', worker_count: 1}}\noperations: {{enabled: false}}\n\
         capacity: {{bake: off, idle_timeout_minutes: {idle_minutes}}}\nmodels: {{a: {{path: a}}}}\n"
    );
    let config = Config::parse(&yaml, &folder.path().join("c"), []).unwrap();
    let (free, go_on) = mpsc::channel();
    let freeing = Arc::new(Freeing {
        begun: Notify::new(),
        go_on: Mutex::new(go_on),
        was_left_alone: AtomicBool::new(false),
    });
    let server = Server::bind(config, slow_to_free(&freeing)).await.unwrap();
    let id = ModelId::new("a").unwrap();
    server.shared.registry.load(&id).await.unwrap();
    (server, freeing, free, folder)
}

#[tokio::test]
async fn idle_models_are_freed_off_the_runtime() {
    let (server, freeing, free, _folder) = with_a_model("1e-9").await;
    let tending = tokio::spawn(attendants::tend_models(server.shared.registry.clone()));
    freeing.begun.notified().await;
    assert!(!freeing.was_left_alone.load(Ordering::SeqCst));
    free.send(()).unwrap();
    tending.abort();
}

#[tokio::test]
async fn a_model_is_unloaded_off_the_runtime() {
    let (server, freeing, free, _folder) = with_a_model("0").await;
    let admin = ModelAdminService::new(&server.shared);
    let request = Request::new(v1::UnloadModelRequest {
        model_id: "a".into(),
    });
    let meanwhile = async {
        freeing.begun.notified().await;
        assert!(!freeing.was_left_alone.load(Ordering::SeqCst));
        free.send(()).unwrap();
    };
    let (unloaded, ()) = tokio::join!(admin.unload_model(request), meanwhile);
    assert!(unloaded.unwrap().into_inner().was_loaded);
}
