use std::{
    cell::Cell,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use lipsync_core::saturate::usize_of;

use super::*;

const N_FRAMES: u32 = 3;

/// A folder with three "frames", and what a pack of them would be called.
struct Avatar {
    folder: tempfile::TempDir,
}

impl Avatar {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for index in 0..N_FRAMES {
            fs::write(folder.path().join(format!("{index}.png")), [7; 5]).expect("written");
        }
        Self { folder }
    }

    fn pack(&self) -> PathBuf {
        self.folder.path().join("avatar.pack")
    }

    fn recipe(&self) -> Recipe {
        self.recipe_with("q85")
    }

    fn recipe_with(&self, settings: &str) -> Recipe {
        let paths: Vec<PathBuf> = (0..N_FRAMES)
            .map(|index| self.folder.path().join(format!("{index}.png")))
            .collect();
        let frames = (0..N_FRAMES).zip(&paths);
        let frames = frames.map(|(index, path)| (path.as_path(), rect(index)));
        Recipe::of(settings.into(), frames).expect("a recipe")
    }

    fn bake(&self) {
        let draft = Draft::begin(&self.pack()).expect("a draft");
        write(draft.file(), &self.recipe()).expect("written");
        draft.publish().expect("published");
    }

    fn open(&self) -> Result<Pack, PackFault> {
        Pack::open(&self.pack(), &self.recipe())
    }

    /// The names in the folder that are no frames.
    fn extras(&self) -> Vec<String> {
        let entries = self.folder.path().read_dir().expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| !name.ends_with(".png")).collect()
    }
}

fn rect(index: u32) -> PixelRect {
    PixelRect {
        x: usize_of(index),
        y: 2,
        width: 3,
        height: 4,
    }
}

/// Parts of different lengths and contents.
fn parts(index: u32) -> [Vec<u8>; N_PARTS] {
    let byte = u8::try_from(index).expect("small");
    [
        vec![byte; 9],
        vec![byte + 50; 4],
        vec![],
        vec![byte + 150; 3],
        vec![byte + 100; 7],
    ]
}

fn write(out: impl Write, recipe: &Recipe) -> io::Result<()> {
    let mut writer = PackWriter::begin(out, recipe.rects.len())?;
    // Workers finish in any order.
    for index in [2, 0, 1] {
        let parts = parts(index);
        writer.frame(
            index,
            rect(index),
            [0, 1, 2, 3, 4].map(|n| parts[n].as_slice()),
        )?;
    }
    writer.finish(recipe)
}

fn assert_whole(pack: &Pack) {
    for index in 0..N_FRAMES {
        let expected = parts(index);
        assert_eq!(pack.baked(index).expect("a frame"), expected[..N_BAKED]);
        assert_eq!(*pack.crop(index).expect("a crop"), expected[N_BAKED][..]);
        pack.will_need_crop(index);
    }
}

fn is_whole(pack: &Pack) -> bool {
    (0..N_FRAMES).all(|index| pack.baked(index).is_ok() && pack.crop(index).is_ok())
}

#[test]
fn what_was_written_is_read() {
    let avatar = Avatar::new();
    assert_eq!(avatar.open().err(), Some(PackFault::Missing));
    avatar.bake();
    let pack = avatar.open().expect("a pack");
    assert_whole(&pack);
    assert!(pack.baked(N_FRAMES).is_err() && pack.crop(u32::MAX).is_err());
    assert_eq!(avatar.extras(), ["avatar.pack"]);
}

#[test]
fn every_flipped_byte_is_found_and_harms_its_own_frame_only() {
    let avatar = Avatar::new();
    avatar.bake();
    let whole = fs::read(avatar.pack()).expect("read");
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x40;
        fs::write(avatar.pack(), damaged).expect("written");
        let Ok(pack) = avatar.open() else { continue };
        assert!(!is_whole(&pack), "byte {place}");
        let is_harmed = |index: &u32| {
            let (baked, crop) = (pack.baked(*index), pack.crop(*index));
            let expected = parts(*index);
            baked.as_ref().is_ok_and(|b| *b != expected[..N_BAKED])
                || crop.as_ref().is_ok_and(|c| **c != expected[N_BAKED][..])
        };
        assert!(
            !(0..N_FRAMES).any(|index| is_harmed(&index)),
            "byte {place}"
        );
        let n_faults = (0..N_FRAMES).filter(|i| pack.baked(*i).and(pack.crop(*i)).is_err());
        assert_eq!(n_faults.count(), 1, "byte {place}");
    }
}

#[test]
fn a_pack_cut_anywhere_is_refused_and_so_is_one_with_a_tail() {
    let avatar = Avatar::new();
    avatar.bake();
    let whole = fs::read(avatar.pack()).expect("read");
    for length in 0..whole.len() {
        fs::write(avatar.pack(), &whole[..length]).expect("written");
        let fault = avatar.open().err().expect("refused");
        let expected = if length < START_BYTES {
            PackFault::Foreign
        } else {
            PackFault::Truncated
        };
        assert_eq!(fault, expected, "{length} bytes");
    }
    for tail in [&b"x"[..], &whole] {
        fs::write(avatar.pack(), [&whole, tail].concat()).expect("written");
        assert!(avatar.open().is_err());
    }
}

#[test]
fn a_pack_cut_while_it_is_open_gives_faults_and_no_wrong_bytes() {
    let avatar = Avatar::new();
    avatar.bake();
    let pack = avatar.open().expect("a pack");
    let file = OpenOptions::new().write(true).open(avatar.pack());
    file.and_then(|file| file.set_len(20)).expect("cut");
    for index in 0..N_FRAMES {
        assert_eq!(pack.baked(index).err(), Some(PackFault::Truncated));
        assert_eq!(pack.crop(index).err(), Some(PackFault::Truncated));
    }
}

#[test]
fn an_index_that_points_past_the_file_is_refused_before_anything_is_allocated() {
    let entry = |offset, n_bytes| Entry {
        rect: rect(0),
        offset,
        parts: [(n_bytes, 0); N_PARTS],
    };
    for (offset, n_bytes, is_good) in [
        (50, 10, true),
        (51, 10, false),
        (0, u32::MAX, false),
        (u64::MAX, 1, false),
        (u64::MAX - 3, 1, false),
    ] {
        let bytes = format::index_bytes(&[entry(offset, n_bytes)]);
        assert_eq!(
            format::parse_index(&bytes, 100).is_ok(),
            is_good,
            "{offset}"
        );
    }
    assert!(format::parse_index(&[0; 3], 100).is_err());
}

#[test]
fn foreign_and_other_versions_are_told_apart() {
    let avatar = Avatar::new();
    fs::write(avatar.pack(), [b'x'; 500]).expect("written");
    assert_eq!(avatar.open().err(), Some(PackFault::Foreign));
    avatar.bake();
    let mut bytes = fs::read(avatar.pack()).expect("read");
    bytes[8] = 77;
    fs::write(avatar.pack(), bytes).expect("written");
    assert_eq!(avatar.open().err(), Some(PackFault::Version { found: 77 }));
    fs::remove_file(avatar.pack()).expect("removed");
    fs::create_dir(avatar.pack()).expect("a folder in its place");
    assert!(avatar.open().is_err());
}

#[test]
fn a_change_of_settings_pictures_or_rectangles_makes_it_stale_and_is_named() {
    let avatar = Avatar::new();
    avatar.bake();
    let open = |recipe: &Recipe| {
        let opened = Pack::open(&avatar.pack(), recipe);
        opened.err().expect("refused").to_string()
    };
    let other = open(&avatar.recipe_with("q90"));
    assert_eq!(other, r#"it was baked with "q85", wanted is "q90""#);

    let mut moved = avatar.recipe();
    moved.rects[1].x += 1;
    assert_eq!(open(&moved), "the rectangle of frame 1 has changed");
    moved.rects.pop();
    assert_eq!(open(&moved), "another number of rectangles");

    // Of the same length: the time tells.
    let picture = avatar.folder.path().join("2.png");
    let file = OpenOptions::new().write(true).open(&picture).expect("open");
    let time = std::time::SystemTime::UNIX_EPOCH;
    file.set_modified(time).expect("an old time");
    assert_eq!(open(&avatar.recipe()), "the picture of frame 2 has changed");
    fs::write(avatar.folder.path().join("1.png"), [7; 6]).expect("longer");
    assert_eq!(open(&avatar.recipe()), "the picture of frame 1 has changed");
    fs::remove_file(picture).expect("removed");
}

/// Takes so many bytes, then has no room.
struct FullDisk<'a, W> {
    out: W,
    room: &'a Cell<usize>,
}

impl<W: Write> Write for FullDisk<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n_bytes = bytes.len().min(self.room.get());
        if n_bytes == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room.set(self.room.get() - n_bytes);
        self.out.write(&bytes[..n_bytes])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[test]
fn a_full_disk_leaves_nothing_behind_and_the_old_pack_in_place() {
    let avatar = Avatar::new();
    let mut n_bytes = 0;
    loop {
        let draft = Draft::begin(&avatar.pack()).expect("a draft");
        let room = Cell::new(n_bytes);
        let out = FullDisk {
            out: draft.file(),
            room: &room,
        };
        match write(out, &avatar.recipe()) {
            Ok(()) => break,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
        }
        drop(draft);
        assert!(avatar.extras().is_empty(), "{:?}", avatar.extras());
        n_bytes += 1;
    }
    avatar.bake();
    let draft = Draft::begin(&avatar.pack()).expect("a draft");
    let out = FullDisk {
        out: draft.file(),
        room: &Cell::new(n_bytes - 1),
    };
    write(out, &avatar.recipe()).expect_err("no room");
    drop(draft);
    assert_eq!(avatar.extras(), ["avatar.pack"]);
    assert_whole(&avatar.open().expect("the old one"));
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let avatar = Avatar::new();
    let nowhere = avatar.folder.path().join("missing/avatar.pack");
    let kind = io::ErrorKind::NotFound;
    assert_eq!(
        Draft::begin(&nowhere).err(),
        Some(PackFault::Unwritable { kind })
    );
}

#[test]
fn one_draft_at_a_time_and_a_dead_ones_is_taken_over() {
    let avatar = Avatar::new();
    let tmp = avatar.folder.path().join("avatar.pack.tmp");
    fs::write(&tmp, [1; 5000]).expect("left by one that died");
    let draft = Draft::begin(&avatar.pack()).expect("a draft");
    assert_eq!(Draft::begin(&avatar.pack()).err(), Some(PackFault::Busy));
    write(draft.file(), &avatar.recipe()).expect("written");
    draft.publish().expect("published");
    assert_whole(&avatar.open().expect("a pack"));
    drop(Draft::begin(&avatar.pack()).expect("free again"));
    assert_eq!(avatar.extras(), ["avatar.pack"]);
}

#[test]
fn a_wait_for_a_draft_that_is_gone_leaves_none() {
    let avatar = Avatar::new();
    Draft::wait(&avatar.pack()).expect("nothing to wait for");
    assert!(avatar.extras().is_empty());
    // Nor one whose maker has gone away without it.
    fs::write(avatar.folder.path().join("avatar.pack.tmp"), []).expect("written");
    Draft::wait(&avatar.pack()).expect("nobody has it");
    assert!(avatar.extras().is_empty());
}

#[test]
fn many_bakers_and_readers_at_once() {
    const N_THREADS: usize = 4;
    const N_BAKES: usize = 25;
    let avatar = Avatar::new();
    avatar.bake();
    let n_published = AtomicUsize::new(0);
    let bake = || {
        for _ in 0..N_BAKES {
            match Draft::begin(&avatar.pack()) {
                Ok(draft) => {
                    write(draft.file(), &avatar.recipe()).expect("written");
                    draft.publish().expect("published");
                    n_published.fetch_add(1, Ordering::SeqCst);
                }
                Err(fault) => {
                    assert_eq!(fault, PackFault::Busy);
                    Draft::wait(&avatar.pack()).expect("its end");
                }
            }
            assert_whole(&avatar.open().expect("always a whole one"));
        }
    };
    thread::scope(|scope| {
        for _ in 0..N_THREADS {
            scope.spawn(bake);
        }
    });
    assert!(n_published.load(Ordering::SeqCst) > 0);
    assert_eq!(avatar.extras(), ["avatar.pack"]);
}

#[test]
fn the_trailer_is_parsed_as_it_was_written() {
    let extent = |offset| Extent {
        offset,
        n_bytes: 5,
        checksum: 6,
    };
    let trailer = Trailer {
        settings: extent(1),
        sources: extent(2),
        index: extent(3),
    };
    let bytes = trailer.bytes(99);
    let bytes: &[u8; TRAILER_BYTES] = bytes[..].try_into().expect("its length");
    assert_eq!(Trailer::parse(bytes, 99), Ok(trailer));
    assert!(Trailer::parse(bytes, 98).is_err());
    assert!(!extent(96).lies_within(100) && extent(95).lies_within(100));
}
