use lipsync_audio::SampleEncoding;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn keys(letter: &str) -> Arc<ResumeKeys> {
    Arc::new(ResumeKeys::parse(&letter.repeat(40)).unwrap())
}

fn pcm(rate_hz: u32) -> AudioForm {
    AudioForm::Pcm(PcmFormat {
        rate_hz,
        n_channels: 1,
        encoding: SampleEncoding::S16Le,
    })
}

fn seal(tenant: &str, model: &str, audio: (AudioForm, bool)) -> Seal {
    let (tenant, model) = (TenantId::new(tenant), ModelId::new(model).unwrap());
    Seal::new(keys("k"), MINUTE, (&tenant, &model), audio)
}

fn position() -> Position {
    Position {
        n_frames: u64::MAX - 1,
        place: 1 << 62,
        weight: 3,
        is_idle: true,
        segment: Some(InSegment {
            segment_id: 7,
            n_frames: 1_000_000,
            mark: 21,
        }),
    }
}

#[test]
fn a_token_gives_back_the_position_that_it_was_made_for() {
    let now = SystemTime::now();
    let seal = seal("acme", "mira", (pcm(16_000), true));
    for position in [position(), Position::start(5, false)] {
        let token = seal.token(&position, now);
        assert_eq!(token.len(), TOKEN_BYTES);
        assert_eq!(seal.position(&token, now), Ok(position));
        let last = now + MINUTE - Duration::from_secs(1);
        assert_eq!(seal.position(&token, last), Ok(position));
        assert_eq!(seal.position(&token, now + MINUTE), Err(Refusal::Expired));
    }
}

#[test]
fn a_token_is_good_for_nobody_and_nothing_else() {
    let now = SystemTime::now();
    let ours = seal("acme", "mira", (pcm(16_000), true));
    let token = ours.token(&position(), now);
    for (other, refusal) in [
        (seal("rival", "mira", (pcm(16_000), true)), Refusal::Foreign),
        (seal("", "mira", (pcm(16_000), true)), Refusal::Foreign),
        (
            seal("acme", "tomo", (pcm(16_000), true)),
            Refusal::OtherModel,
        ),
        (
            seal("acme", "mira", (pcm(48_000), true)),
            Refusal::OtherAudio,
        ),
        (
            seal("acme", "mira", (pcm(16_000), false)),
            Refusal::OtherAudio,
        ),
        (
            seal("acme", "mira", (AudioForm::Steps, true)),
            Refusal::OtherAudio,
        ),
    ] {
        assert_eq!(other.position(&token, now), Err(refusal));
    }
    let foreign = Seal {
        keys: keys("x"),
        ..ours.clone()
    };
    assert_eq!(foreign.position(&token, now), Err(Refusal::Foreign));
    let off = Seal {
        window: Duration::ZERO,
        ..ours
    };
    assert_eq!(off.position(&token, now), Err(Refusal::Off));
    assert!(off.token(&position(), now).is_empty());
}

#[test]
fn a_changed_byte_and_a_changed_length_are_found() {
    let now = SystemTime::now();
    let seal = seal("acme", "mira", (pcm(16_000), true));
    let token = seal.token(&position(), now);
    for n in 0..token.len() {
        let mut forged = token.to_vec();
        forged[n] ^= 1;
        assert_eq!(seal.position(&forged, now), Err(Refusal::Foreign), "{n}");
    }
    for forged in [&token[1..], &token[..token.len() - 1], b"", &[0; 1000]] {
        assert_eq!(seal.position(forged, now), Err(Refusal::Foreign));
    }
    let longer = [&token[..], b"x"].concat();
    assert_eq!(seal.position(&longer, now), Err(Refusal::Foreign));
}
