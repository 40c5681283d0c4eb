//! A disk of two files, filled, damaged and repaired.

use std::os::unix::fs::FileExt;

use super::*;

struct Rig {
    _dir: tempfile::TempDir,
    disk: Disk,
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A system of `data_blocks` blocks, as the image builder lays it out.
fn system(data_blocks: u64, version: &str) -> Vec<u8> {
    let block = usize::try_from(BLOCK).expect("small");
    let mut image: Vec<u8> = (0..data_blocks as usize * block).map(|i| (i / 7) as u8).collect();
    image[..4].copy_from_slice(b"hsqs");
    image[40..48].copy_from_slice(&(data_blocks * BLOCK - 5).to_le_bytes());
    let mut description = Description {
        data_blocks,
        hash_start: data_blocks + 1,
        total_blocks: data_blocks + 3,
        root_hash: vec![0; 32],
        salt: vec![7; 32],
        version: version.to_owned(),
    };
    description.root_hash = verity::root_hash(&mut std::io::Cursor::new(&image), &description).expect("memory");
    let text = format!(
        "skiff-slot 1 {} {} {} {} {} {version}\n",
        description.data_blocks,
        description.hash_start,
        description.total_blocks,
        hexadecimal(&description.root_hash),
        hexadecimal(&description.salt)
    );
    image.extend_from_slice(text.as_bytes());
    image.resize(description.total_blocks as usize * block, 0);
    image
}

fn rig(a: &[u8], b: &[u8], running: &str) -> Rig {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let disk = Disk {
        environment: at("efi/skiff/bootenv"),
        partitions: [at("a"), at("b")],
        command_line: at("cmdline"),
        machine_id: at("machine-id"),
    };
    let padded = |image: &[u8]| [image, &vec![0; (400 * BLOCK as usize) - image.len()]].concat();
    std::fs::write(&disk.partitions[0], padded(a)).expect("a");
    std::fs::write(&disk.partitions[1], padded(b)).expect("b");
    std::fs::write(&disk.command_line, format!("root=/dev/mapper/x skiff.slot={running} quiet\n")).expect("cmdline");
    std::fs::write(&disk.machine_id, "0123456789abcdef0123456789abcdef\n").expect("machine id");
    Rig { _dir: dir, disk }
}

impl Rig {
    fn attempts(&self, a: u8, b: u8) {
        let mut environment = self.disk.environment();
        environment.set_attempts_left(Slot::A, a);
        environment.set_attempts_left(Slot::B, b);
        self.disk.write_environment(&environment).expect("written");
    }

    fn left(&self) -> [u8; 2] {
        Slot::ALL.map(|slot| self.disk.environment().attempts_left(slot))
    }

    fn damage(&self, slot: Slot, offset: u64) {
        let file = OpenOptions::new().write(true).open(&self.disk.partitions[slot.index()]).expect("partition");
        file.write_all_at(b"damage", offset).expect("written");
    }
}

#[test]
fn the_hash_tree_is_that_of_veritysetup() {
    // `veritysetup format --no-superblock --salt=07…07` of the same 300 blocks.
    let image = system(300, "1");
    let description = description::read(&mut std::io::Cursor::new(&image)).expect("memory").expect("a system");
    assert_eq!(hexadecimal(&description.root_hash), ROOT_HASH_OF_VERITYSETUP);
}

const ROOT_HASH_OF_VERITYSETUP: &str = "a33e640cf0739eb607ae7ebd5ce9d46f5d869d16c2eb06c71250370bed10d868";

#[test]
fn an_empty_slot_is_filled_once() {
    let rig = rig(&system(300, "1.0"), &[], "a");
    assert_eq!(rig.disk.fill_other().expect("filled"), Filled::Copied);
    let description = rig.disk.description(Slot::B).expect("a system");
    assert_eq!(description.version, "1.0");
    assert!(rig.disk.verify(Slot::B, &description).expect("read"));
    assert_eq!(rig.disk.fill_other().expect("filled"), Filled::Intact);
}

#[test]
fn a_damaged_slot_is_repaired_from_the_running_one() {
    for offset in [0, 5 * BLOCK, 300 * BLOCK] {
        let rig = rig(&system(300, "1.0"), &system(300, "1.0"), "b");
        rig.damage(Slot::A, offset);
        rig.attempts(0, 3);
        assert_eq!(rig.disk.problem().as_deref(), Some("slot A did not start in 3 attempts: the box runs from slot B"));
        assert_eq!(rig.disk.fill_other().expect("repaired"), Filled::Repaired, "damaged at {offset}");
        assert_eq!(rig.left(), [3, 3]);
        let description = rig.disk.description(Slot::A).expect("a system");
        assert!(rig.disk.verify(Slot::A, &description).expect("read"));
    }
}

#[test]
fn an_intact_slot_gets_its_attempts_back_only_if_it_is_the_same_system() {
    let same = rig(&system(300, "1.0"), &system(300, "1.0"), "b");
    same.attempts(0, 3);
    assert_eq!(same.disk.fill_other().expect("looked at"), Filled::Intact);
    assert_eq!(same.left(), [3, 3]);
    let newer = rig(&system(200, "2.0"), &system(300, "1.0"), "b");
    newer.attempts(0, 3);
    assert_eq!(newer.disk.fill_other().expect("looked at"), Filled::Intact);
    assert_eq!(newer.left(), [0, 3], "a new system that did not start is left alone");
}

#[test]
fn coming_up_gives_the_attempts_back_and_keeps_the_machine() {
    let rig = rig(&system(300, "1.0"), &[], "a");
    rig.attempts(2, 1);
    rig.disk.keep_running().expect("kept");
    assert_eq!(rig.left(), [3, 1]);
    assert_eq!(rig.disk.environment().machine_id.as_deref(), Some("0123456789abcdef0123456789abcdef"));
}

#[test]
fn the_other_slot_is_preferred_only_if_it_holds_a_system() {
    let empty = rig(&system(300, "1.0"), &[], "a");
    assert!(matches!(empty.disk.prefer_other(), Err(SlotError::Empty(Slot::B))));
    let full = rig(&system(300, "1.0"), &system(200, "0.9"), "a");
    full.attempts(3, 0);
    assert_eq!(full.disk.prefer_other().expect("preferred"), Slot::B);
    assert_eq!(full.disk.environment().order, [Slot::B, Slot::A]);
    assert_eq!(full.left(), [3, 3]);
    assert_eq!(full.disk.problem().as_deref(), Some("slot B should run, but the box started from slot A"));
}

#[test]
fn an_environment_that_is_damaged_is_made_anew() {
    let rig = rig(&system(300, "1.0"), &[], "a");
    for damaged in [&b""[..], b"\xff\xfe", b"# GRUB Environment Block", &[b'#'; 5000]] {
        std::fs::create_dir_all(rig.disk.environment.parent().expect("a folder")).expect("made");
        std::fs::write(&rig.disk.environment, damaged).expect("written");
        assert_eq!(rig.disk.environment(), Environment::default());
        rig.disk.keep_running().expect("kept");
        assert_eq!(std::fs::read(&rig.disk.environment).expect("read").len(), 1024);
    }
}

#[test]
fn wrong_values_in_the_environment_have_their_defaults() {
    let text = "# GRUB Environment Block\norder=c d\na_left=9\nb_left=x\nmachine_id=init=/bin/sh\nunknown=1\n####";
    assert_eq!(Environment::parse(text.as_bytes()), Some(Environment::default()));
    let text = "# GRUB Environment Block\norder=b a\na_left=0\nb_left=1\n####";
    let environment = Environment::parse(text.as_bytes()).expect("a block");
    assert_eq!(environment.next(), Slot::B);
    assert_eq!(Environment::parse(&environment.render()), Some(environment));
}

#[test]
fn a_machine_without_slots_says_so() {
    let rig = rig(&[], &[], "a");
    std::fs::write(&rig.disk.command_line, "root=/dev/sda1").expect("written");
    assert!(matches!(rig.disk.running(), Err(SlotError::NoAppliance)));
    assert_eq!(rig.disk.problem(), None);
    std::fs::write(&rig.disk.command_line, "skiff.slot=c").expect("written");
    assert!(matches!(rig.disk.running(), Err(SlotError::Unknown { .. })));
}

#[test]
fn descriptions_that_make_no_sense_are_no_systems() {
    let good = system(300, "1.0");
    let at = 300 * BLOCK as usize;
    for text in ["skiff-slot 2 300 301 303", "skiff-slot 1 300 301 99999999999", "", "\0\0", "skiff-slot 1 a b c d e f"]
    {
        let mut image = good.clone();
        image[at..at + BLOCK as usize].fill(0);
        image[at..at + text.len()].copy_from_slice(text.as_bytes());
        assert_eq!(description::read(&mut std::io::Cursor::new(&image)).expect("memory"), None, "{text}");
    }
    let mut image = good;
    image[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(description::read(&mut std::io::Cursor::new(&image)).expect("memory"), None);
}
