//! What the boot loader goes by: GRUB's environment block.
//! <https://www.gnu.org/software/grub/manual/grub/html_node/Environment-block.html>

use std::fmt;

const HEADER: &str = "# GRUB Environment Block\n";
const BLOCK_BYTES: usize = 1024;
/// `esp/grub.cfg` of the image counts down from it.
pub const ATTEMPTS_MAX: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "a" | "A" => Some(Self::A),
            "b" | "B" => Some(Self::B),
            _ => None,
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// As RAUC and people call it.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    pub order: [Slot; 2],
    left: [u8; 2],
    pub machine_id: Option<String>,
}

impl Default for Environment {
    fn default() -> Self {
        Self { order: Slot::ALL, left: [ATTEMPTS_MAX; 2], machine_id: None }
    }
}

impl Environment {
    /// `None`: the block is damaged. A key that is wrong or missing has its default.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_prefix(HEADER)?;
        let mut environment = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let attempts = || value.parse().ok().filter(|n| *n <= ATTEMPTS_MAX).unwrap_or(ATTEMPTS_MAX);
            match key {
                "order" => {
                    if let Some(first) = value.split(' ').next().and_then(Slot::parse) {
                        environment.prefer(first);
                    }
                }
                "a_left" => environment.left[Slot::A.index()] = attempts(),
                "b_left" => environment.left[Slot::B.index()] = attempts(),
                "machine_id" => environment.set_machine_id(value),
                _ => {}
            }
        }
        Some(environment)
    }

    pub fn render(&self) -> Vec<u8> {
        let [first, second] = self.order.map(Slot::key);
        let [a, b] = self.left;
        let mut text = format!("{HEADER}order={first} {second}\na_left={a}\nb_left={b}\n");
        if let Some(id) = &self.machine_id {
            text += &format!("machine_id={id}\n");
        }
        let mut block = text.into_bytes();
        block.resize(BLOCK_BYTES, b'#');
        block
    }

    pub fn attempts_left(&self, slot: Slot) -> u8 {
        self.left[slot.index()]
    }

    pub fn set_attempts_left(&mut self, slot: Slot, attempts: u8) {
        self.left[slot.index()] = attempts.min(ATTEMPTS_MAX);
    }

    pub fn prefer(&mut self, slot: Slot) {
        self.order = [slot, slot.other()];
    }

    /// Anything but 32 hexadecimal digits (machine-id(5)) is left out: it would become part of the kernel's command line.
    pub fn set_machine_id(&mut self, text: &str) {
        let valid = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        self.machine_id = valid.then(|| text.to_owned());
    }

    /// The slot that the boot loader takes next, if its kernel can be read.
    pub fn next(&self) -> Slot {
        self.order.into_iter().find(|slot| self.attempts_left(*slot) > 0).unwrap_or(self.order[0])
    }
}
