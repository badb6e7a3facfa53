//! Walks the header of a GGUF file before a loader reads it: a length that the file cannot hold would
//! make the loader ask for that much memory, which ends the process and not only the load.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// How deep lists may lie in lists.
const DEEPEST: u32 = 4;

/// The header, and how many bytes of the file are left.
struct Header<R> {
    reader: BufReader<R>,
    left: u64,
}

/// Checks that every length in the header fits into the file, whose magic number was read already.
pub(super) fn check_header<R: Read + Seek>(mut file: R) -> io::Result<()> {
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(4))?;
    let mut header = Header { reader: BufReader::new(file), left: size.saturating_sub(4) };
    let version = header.number(4)?;
    // The first version counts in 32 bits.
    let width = if version == 1 { 4 } else { 8 };
    let (tensors, pairs) = (header.number(width)?, header.number(width)?);
    for _ in 0..pairs {
        header.text(width)?;
        let kind = header.number(4)?;
        header.value(kind, width, 0)?;
    }
    for _ in 0..tensors {
        header.text(width)?;
        let dimensions = header.number(4)?;
        header.skip(dimensions.saturating_mul(width).saturating_add(12))?;
    }
    Ok(())
}

impl<R: Read + Seek> Header<R> {
    fn number(&mut self, width: u64) -> io::Result<u64> {
        self.take(width)?;
        let mut bytes = [0; 8];
        self.reader.read_exact(&mut bytes[..width as usize])?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn take(&mut self, count: u64) -> io::Result<()> {
        self.left = self.left.checked_sub(count).ok_or_else(|| {
            io::Error::other("its header states a length that goes beyond the end of the file; it is cut off or damaged")
        })?;
        Ok(())
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        self.take(count)?;
        self.reader.seek_relative(count as i64)
    }

    fn text(&mut self, width: u64) -> io::Result<()> {
        let length = self.number(width)?;
        self.skip(length)
    }

    fn value(&mut self, kind: u64, width: u64, depth: u32) -> io::Result<()> {
        match kind {
            0 | 1 | 7 => self.skip(1),
            2 | 3 => self.skip(2),
            4..=6 => self.skip(4),
            10..=12 => self.skip(8),
            8 => self.text(width),
            9 if depth < DEEPEST => {
                let (kind, count) = (self.number(4)?, self.number(width)?);
                // Every element takes a byte at least, so a count beyond the file ends here soon.
                (0..count).try_for_each(|_| self.value(kind, width, depth + 1))
            }
            _ => Err(io::Error::other("its header has a value of an unknown type")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_length_beyond_the_file_is_refused_before_memory_is_asked_for() {
        let header = |length: u64| {
            let mut bytes = b"GGUF".to_vec();
            bytes.extend(3_u32.to_le_bytes());
            bytes.extend(0_u64.to_le_bytes());
            bytes.extend(1_u64.to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.extend(b"k");
            bytes.extend(4_u32.to_le_bytes());
            bytes.extend(7_u32.to_le_bytes());
            bytes
        };
        check_header(Cursor::new(header(1))).unwrap();
        let error = check_header(Cursor::new(header(7_311_353_633_137_609_055))).unwrap_err();
        assert!(error.to_string().contains("cut off"), "{error}");
    }
}
