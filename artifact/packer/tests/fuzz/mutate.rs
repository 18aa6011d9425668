//! Mutations of a corpus, repeated by their seed.

/// Random numbers (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What readers of JSON trip over.
pub const JSON: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"]",
    b",",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"\"",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\xFF",
    b"\\ud800",
    b"\"../\"",
    b"\"git+ssh://h/x\"",
    b"[[[[[[[[",
    b"sha1-",
    b"sha256:",
    b"\"version\":",
    b"\"integrity\":",
    b"\"size\":",
    b"\"layers\":",
];

/// What readers of archives trip over.
pub const TAR: &[&[u8]] = &[
    b"\0",
    b"..",
    b"../",
    b"/../",
    b"/",
    b"//",
    b"\\",
    b"\n",
    b"\xFF",
    b"x",
    b"g",
    b"L",
    b"K",
    b"S",
    b"1",
    b"2",
    b"77777777777\0",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x01",
    b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
    b"ustar  \0",
    b"20 size=99999999999\n",
    b"12 path=../x\n",
    b"99999999999999999999 path=x\n",
    b"0 =\n",
    &[0; 512],
];

/// One input: an entry of the corpus after a few mutations, now and then none.
pub fn bytes(random: &mut Random, corpus: &[Vec<u8>], splices: &[&[u8]]) -> Vec<u8> {
    let mut bytes = random.pick(corpus).clone();
    for _ in 0..random.below(5) {
        mutate(random, &mut bytes, corpus, splices);
    }
    bytes
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>], splices: &[&[u8]]) {
    let at = random.below(bytes.len() + 1);
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.below(256) as u8;
            }
        }
        3 => bytes
            .splice(at..at, random.pick(splices).iter().copied())
            .for_each(drop),
        // In place, so that what follows stays where it is.
        4 | 5 => {
            for (byte, new) in bytes[at..].iter_mut().zip(*random.pick(splices)) {
                *byte = *new;
            }
        }
        6 => {
            let end = at + random.below(bytes.len() - at + 1);
            bytes.drain(at..end);
        }
        _ => {
            let other = random.pick(corpus);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
    }
}

/// Makes the checksum of every block that could be a header right, without which no
/// mutation of a header gets further than its checksum.
pub fn sign_headers(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}
