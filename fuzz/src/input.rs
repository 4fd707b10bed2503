use std::ffi::OsString;
use std::io;

/// Runs `target` on each of the files.
///
/// # Errors
/// A file that cannot be read.
pub fn replay(target: fn(&[u8]), files: impl Iterator<Item = OsString>) -> io::Result<()> {
    for file in files {
        target(&std::fs::read(file)?);
    }
    Ok(())
}

/// The lines of an input, as text; what is not UTF-8 is replaced. The last has all that is left.
pub(crate) fn lines<const N: usize>(data: &[u8]) -> [String; N] {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(N, '\n');
    std::array::from_fn(|_| lines.next().unwrap_or_default().to_owned())
}

/// Takes the first byte off, 0 where there is none.
pub(crate) fn take_byte(data: &mut &[u8]) -> u8 {
    let Some((first, rest)) = data.split_first() else { return 0 };
    *data = rest;
    *first
}
